"""Converts OpenCLIP and Hugging Face models. OpenCLIP's configs become `Sizes`; weights get OpenAI's parameter names.

`clip.loading` calls these functions. If our image and text towers don't support a model, the functions raise ValueError
with the reason.
"""

import dataclasses
import re
from collections.abc import Mapping

import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from clip import configs
from clip.sizes import OPENAI_MEAN, OPENAI_STD, Sizes

#: The content of a config file.
Config = Mapping[str, object]

#: Fields of OpenCLIP's configs that may have any value. All other fields must have OpenCLIP's default value.
_SUPPORTED: dict[type[CLIPVisionCfg] | type[CLIPTextCfg], set[str]] = {
    CLIPVisionCfg: {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"},
    CLIPTextCfg: {"context_length", "width", "heads", "layers", "mlp_ratio"},
}


def openclip_sizes(model_cfg: Config, preprocess: Config, quick_gelu: bool) -> Sizes:
    """Return the sizes of an OpenCLIP model.

    Args:
        model_cfg: the model's config, as in OpenCLIP's model_configs.
        preprocess: `mean` and `std` of the images. If a key is missing, OpenAI's value is used.
        quick_gelu: whether the weights were trained with QuickGELU.

    Raises:
        ValueError: the config is wrong, or our image and text towers don't support the model. The message names the
            field of the config.
    """
    model = configs.checked(model_cfg, configs.OpenCLIPModel, "model_cfg")
    _check_fields("vision_cfg", model.vision_cfg, CLIPVisionCfg)
    _check_fields("text_cfg", model.text_cfg, CLIPTextCfg)
    vision = configs.checked(model.vision_cfg, configs.OpenCLIPVision, "vision_cfg")
    text = configs.checked(model.text_cfg, configs.OpenCLIPText, "text_cfg")
    images = configs.checked(preprocess, configs.Preprocess, "preprocess_cfg")
    resnet = not isinstance(vision.layers, int)
    size = vision.image_size
    if not isinstance(size, int) and size[0] != size[1]:
        raise ValueError(f"its images have {size[0]} x {size[1]} pixels: only square images are supported")
    return Sizes(
        embed_dim=model.embed_dim,
        image_resolution=size if isinstance(size, int) else size[0],
        vision_layers=vision.layers if isinstance(vision.layers, int) else tuple(vision.layers),
        vision_width=vision.width,
        vision_patch_size=0 if resnet else vision.patch_size or 0,
        vision_heads=vision.width * (32 if resnet else 1) // vision.head_width,
        vision_mlp=0 if resnet else int(vision.width * vision.mlp_ratio),
        context_length=text.context_length,
        vocab_size=text.vocab_size,
        transformer_width=text.width,
        transformer_heads=text.heads,
        transformer_layers=text.layers,
        transformer_mlp=int(text.width * text.mlp_ratio),
        activation="quick_gelu" if quick_gelu else "gelu",
        mean=images.mean or OPENAI_MEAN,
        std=images.std or OPENAI_STD,
    )


def _check_fields(key: str, config: Config, cls: type[CLIPVisionCfg] | type[CLIPTextCfg]) -> None:
    """Raise ValueError if a field that isn't in `_SUPPORTED` differs from OpenCLIP's default value.

    Args:
        key: name of the config in the message, "vision_cfg" or "text_cfg".
    """
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    for name, value in config.items():
        if name not in _SUPPORTED[cls] and value != defaults.get(name):
            raise ValueError(
                f"{key} has {name} = {value!r}: only CLIP's own architecture is supported (image tower: a plain ViT or "
                "ResNet; text tower: causal, with CLIP's vocabulary, and with the EOT token's output as the feature)"
            )


def openclip_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename OpenCLIP's weights to OpenAI's parameter names.

    In OpenCLIP's "custom text" models, the names in the text tower start with `text.`, which is removed.
    """
    return {name.removeprefix("module.").removeprefix("text."): weight for name, weight in state.items()}


#: Pairs (regular expression, replacement) that turn Hugging Face's parameter names into OpenAI's. All pairs are applied
#: to each name, in this order.
_HUGGINGFACE_NAMES = (
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.", "ln_final."),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.", "visual.ln_pre."),  # "layrnorm" is the spelling in Hugging Face's weights
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
    """Convert the weights of a Hugging Face `CLIPModel` to OpenAI's parameter names and shapes.

    The three projections of queries, keys and values are merged into one matrix. The matrices that project to the
    embedding space are transposed.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, weight in state.items():
        if name.endswith("position_ids") or re.search(r"\.self_attn\.[kv]_proj\.", name):
            # Skip position_ids, which our towers don't have. Skip k and v, because the code below merges them with q.
            continue
        new = name
        if ".self_attn.q_proj." in name:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]  # each (width, width) or (width,)
            weight = torch.cat(parts)  # (3 * width, width) or (3 * width,)
            new = re.sub(r"\.self_attn\.q_proj\.(weight|bias)", r".attn.in_proj_\1", name)
        for pattern, replacement in _HUGGINGFACE_NAMES:
            new = re.sub(pattern, replacement, new)
        weights[new] = weight.t() if new in ("text_projection", "visual.proj") else weight
    return weights
