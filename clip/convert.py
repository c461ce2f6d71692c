"""OpenCLIP's and Hugging Face's models in OpenAI's layout: their configs as `Sizes`, their weights under its names."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from clip.sizes import OPENAI_MEAN, OPENAI_STD, Sizes

#: Fields of OpenCLIP's configs that our towers follow; in any other a model must have OpenCLIP's default.
_FOLLOWED = {
    CLIPVisionCfg: {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"},
    CLIPTextCfg: {"context_length", "width", "heads", "layers", "mlp_ratio"},
}


def openclip_sizes(model_cfg: Mapping[str, Any], preprocess: Mapping[str, Any], quick_gelu: bool) -> Sizes:
    """Sizes of an OpenCLIP model.

    Args:
        model_cfg: its config, as in OpenCLIP's model_configs.
        preprocess: `mean` and `std` of its images where they aren't OpenAI's.
        quick_gelu: whether its weights were trained with QuickGELU.

    Raises:
        ValueError: a tower that ours can't be; names the config's field.
    """
    for key, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        _refuse_unusual(key, model_cfg[key], kind)
    vision, text = CLIPVisionCfg(**model_cfg["vision_cfg"]), CLIPTextCfg(**model_cfg["text_cfg"])
    resnet = isinstance(vision.layers, (tuple, list))
    size = vision.image_size
    if not isinstance(size, int) and size[0] != size[1]:
        raise ValueError(f"images of {size[0]} x {size[1]} pixels: only square ones are offered")
    return Sizes(
        embed_dim=model_cfg["embed_dim"],
        image_resolution=size if isinstance(size, int) else size[0],
        vision_layers=tuple(vision.layers) if resnet else vision.layers,
        vision_width=vision.width,
        vision_patch_size=0 if resnet else vision.patch_size,
        vision_heads=vision.width * (32 if resnet else 1) // vision.head_width,
        vision_mlp=0 if resnet else int(vision.width * vision.mlp_ratio),
        context_length=text.context_length,
        vocab_size=text.vocab_size,
        transformer_width=text.width,
        transformer_heads=text.heads,
        transformer_layers=text.layers,
        transformer_mlp=int(text.width * text.mlp_ratio),
        activation="quick_gelu" if quick_gelu else "gelu",
        mean=tuple(preprocess.get("mean", OPENAI_MEAN)),
        std=tuple(preprocess.get("std", OPENAI_STD)),
    )


def _refuse_unusual(key: str, config: Mapping[str, Any], kind: Any) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for name, value in config.items():
        if name not in _FOLLOWED[kind] and value != defaults.get(name):
            raise ValueError(
                f"{key} says {name} = {value!r}: only plain ViT and ResNet image towers and causal text towers with "
                "CLIP's vocabulary, read at EOT, are offered"
            )


def openclip_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenCLIP's weights under OpenAI's names; its "custom text" models put `text.` before the text tower's."""
    return {name.removeprefix("module.").removeprefix("text."): weight for name, weight in state.items()}


def huggingface_sizes(config: Mapping[str, Any], preprocess: Mapping[str, Any]) -> Sizes:
    """Sizes of a Hugging Face `CLIPModel` from its config.json and preprocessor_config.json.

    Raises:
        ValueError: no CLIPModel, or an activation or vocabulary that ours can't have.
    """
    if config.get("model_type") != "clip":
        raise ValueError(f"its config.json says model_type {config.get('model_type')!r}: only 'clip' is offered")
    vision, text = config["vision_config"], config["text_config"]
    activations = {tower.get("hidden_act", "quick_gelu") for tower in (vision, text)}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise ValueError(f"activations {sorted(activations)}: one of quick_gelu and gelu for both towers is offered")
    if text.get("vocab_size", 49408) != 49408:
        raise ValueError(f"a vocabulary of {text['vocab_size']}: only CLIP's 49408 tokens are offered")
    width, text_width = vision.get("hidden_size", 768), text.get("hidden_size", 512)
    return Sizes(
        embed_dim=config.get("projection_dim", 512),
        image_resolution=vision.get("image_size", 224),
        vision_layers=vision.get("num_hidden_layers", 12),
        vision_width=width,
        vision_patch_size=vision.get("patch_size", 32),
        vision_heads=vision.get("num_attention_heads", 12),
        vision_mlp=vision.get("intermediate_size", 3072),
        context_length=text.get("max_position_embeddings", 77),
        vocab_size=49408,
        transformer_width=text_width,
        transformer_heads=text.get("num_attention_heads", 8),
        transformer_layers=text.get("num_hidden_layers", 12),
        transformer_mlp=text.get("intermediate_size", 2048),
        activation=activations.pop(),
        mean=tuple(preprocess.get("image_mean", OPENAI_MEAN)),
        std=tuple(preprocess.get("image_std", OPENAI_STD)),
    )


#: Hugging Face's name -> OpenAI's, as regular expressions, tried in this order.
_HUGGINGFACE_NAMES = (
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.", "ln_final."),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # their spelling
    (r"vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"text_projection\.weight", "text_projection"),
    (r"visual_projection\.weight", "visual.proj"),
)


def huggingface_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Hugging Face `CLIPModel`'s weights in OpenAI's layout: other names, joined q, k, v, transposed projections."""
    weights: dict[str, torch.Tensor] = {}
    for name, weight in state.items():
        if name.endswith("position_ids") or re.search(r"\.self_attn\.[kv]_proj\.", name):
            continue  # a mere range; keys and values go with the queries
        new = name
        if ".self_attn.q_proj." in name:
            weight = torch.cat([state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
            new = re.sub(r"\.self_attn\.q_proj\.(weight|bias)", r".attn.in_proj_\1", name)
        for pattern, replacement in _HUGGINGFACE_NAMES:
            new = re.sub(pattern, replacement, new)
        weights[new] = weight.t() if new in ("text_projection", "visual.proj") else weight
    return weights
