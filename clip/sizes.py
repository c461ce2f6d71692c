"""All sizes of a CLIP in one record, read off OpenAI-style weights or given by somebody's config."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

#: Mean and standard deviation of the RGB channels that OpenAI's models were trained with.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Sizes:
    """Sizes, activation and image normalisation of a CLIP.

    `vision_layers` is a number of blocks for a Vision Transformer, blocks by stage for a ModifiedResNet (whose
    `vision_patch_size` and `vision_mlp` are 0).
    """

    embed_dim: int
    image_resolution: int
    vision_layers: int | tuple[int, ...]
    vision_width: int
    vision_patch_size: int
    vision_heads: int
    vision_mlp: int
    context_length: int
    vocab_size: int
    transformer_width: int
    transformer_heads: int
    transformer_layers: int
    transformer_mlp: int
    activation: str = "quick_gelu"  # or gelu
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD

    @classmethod
    def from_state_dict(cls, state: Mapping[str, torch.Tensor], **known) -> "Sizes":
        """Sizes of weights in OpenAI's layout: 64 wide heads and QuickGELU, unless `known` says otherwise.

        Raises:
            KeyError: `state` is not in OpenAI's layout; names the missing key.
        """
        text_width = state["ln_final.weight"].shape[0]
        return cls(
            **{
                **(_vit(state) if "visual.proj" in state else _resnet(state)),
                "embed_dim": state["text_projection"].shape[1],
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "transformer_width": text_width,
                "transformer_heads": text_width // 64,
                "transformer_layers": _count(state, r"transformer\.resblocks\.(\d+)\."),
                "transformer_mlp": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
                **known,
            }
        )


def _vit(state: Mapping[str, torch.Tensor]) -> dict:
    width, _, _, patch = state["visual.conv1.weight"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "image_resolution": grid * patch,
        "vision_layers": _count(state, r"visual\.transformer\.resblocks\.(\d+)\."),
        "vision_width": width,
        "vision_patch_size": patch,
        "vision_heads": width // 64,
        "vision_mlp": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
    }


def _resnet(state: Mapping[str, torch.Tensor]) -> dict:
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "image_resolution": grid * 32,
        "vision_layers": tuple(_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)),
        "vision_width": width,
        "vision_patch_size": 0,
        "vision_heads": width * 32 // 64,
        "vision_mlp": 0,
    }


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    """How many distinct numbers the names have where `pattern` has its group."""
    return len({match[1] for match in (re.match(pattern, name) for name in state) if match})
