"""Defines `Sizes`, a record of all sizes of a CLIP.

`CLIP` is built from a `Sizes` object. `Sizes.from_state_dict` infers the sizes from weights with OpenAI's
parameter names. `clip.convert` reads the sizes from a config of OpenCLIP or Hugging Face.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

#: Mean and standard deviation of the RGB channels. OpenAI normalised the training images with these values.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Sizes:
    """Sizes, activation and image normalisation of a CLIP.

    `vision_layers` is the number of blocks of a Vision Transformer, or the number of blocks of each stage of a
    ModifiedResNet. A ModifiedResNet has `vision_patch_size` 0 and `vision_mlp` 0.
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
    activation: str = "quick_gelu"  # "quick_gelu" or "gelu"
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD

    @classmethod
    def from_state_dict(cls, state: Mapping[str, torch.Tensor]) -> "Sizes":
        """Infer the sizes from weights with OpenAI's parameter names.

        The number of heads and the activation can't be inferred. This function assumes that they are chosen as in
        OpenAI's models: each head has a width of 64, and the activation is QuickGELU.

        Raises:
            KeyError: a weight is missing. The message is the name of the missing weight.
        """
        vision = _vit(state) if "visual.proj" in state else _resnet(state)
        text_width = state["ln_final.weight"].shape[0]
        return cls(
            embed_dim=state["text_projection"].shape[1],
            image_resolution=vision.resolution,
            vision_layers=vision.layers,
            vision_width=vision.width,
            vision_patch_size=vision.patch_size,
            vision_heads=vision.heads,
            vision_mlp=vision.mlp,
            context_length=state["positional_embedding"].shape[0],
            vocab_size=state["token_embedding.weight"].shape[0],
            transformer_width=text_width,
            transformer_heads=text_width // 64,
            transformer_layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
            transformer_mlp=state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        )


class _VisionSizes(NamedTuple):
    """Sizes of an image tower. The fields mean the same as in `Sizes`."""

    resolution: int
    layers: int | tuple[int, ...]
    width: int
    patch_size: int
    heads: int
    mlp: int


def _vit(state: Mapping[str, torch.Tensor]) -> _VisionSizes:
    width, _, _, patch_size = state["visual.conv1.weight"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)  # patches per side (without CLS)
    return _VisionSizes(
        resolution=grid * patch_size,
        layers=_count(state, r"visual\.transformer\.resblocks\.(\d+)\."),
        width=width,
        patch_size=patch_size,
        heads=width // 64,
        mlp=state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
    )


def _resnet(state: Mapping[str, torch.Tensor]) -> _VisionSizes:
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)  # positions per side
    return _VisionSizes(
        resolution=grid * 32,
        layers=tuple(_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)),
        width=width,
        patch_size=0,
        heads=width * 32 // 64,
        mlp=0,
    )


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    """Match the names of the weights with `pattern`. Return how many different texts the pattern's group captures."""
    return len({match[1] for match in (re.match(pattern, name) for name in state) if match})
