"""Defines `Sizes`, a record of all sizes of a CLIP.

`CLIP` is built from a `Sizes` object. `Sizes.from_state_dict` infers the sizes from weights with OpenAI's
parameter names. `clip.convert` reads the sizes from a config of OpenCLIP or Hugging Face.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

#: Mean and standard deviation of the RGB channels. OpenAI normalised the training images with these values.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
#: Number of tokens of CLIP's tokenizer.
VOCABULARY = 49408
#: Largest number of layers of a tower, and of blocks of a ResNet's stage. The largest known CLIP has 48 layers.
MAX_LAYERS = 200
#: Largest width, resolution or other size. Larger numbers come from damaged files.
MAX_SIZE = 2**20


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

    def __post_init__(self) -> None:
        """Raise ValueError if a size is out of range, or if the heads don't divide the width of their tower."""
        blocks = self.vision_layers if isinstance(self.vision_layers, tuple) else (self.vision_layers,)
        for number in (*blocks, self.transformer_layers):
            if not 1 <= number <= MAX_LAYERS:
                raise ValueError(f"a tower has {number} layers: only 1 to {MAX_LAYERS} are supported")
        resnet = isinstance(self.vision_layers, tuple)
        may_be_0 = ("vision_patch_size", "vision_mlp") if resnet else ()
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, int) and not (0 if name in may_be_0 else 1) <= value <= MAX_SIZE:
                raise ValueError(f"{name} is {value}: only 1 to {MAX_SIZE} are supported")
        towers = {
            "image": (self.vision_width * (32 if resnet else 1), self.vision_heads),
            "text": (self.transformer_width, self.transformer_heads),
        }
        for tower, (width, heads) in towers.items():
            if width % heads:
                raise ValueError(f"the {tower} tower has the width {width}, which {heads} heads don't divide")
        if self.image_resolution < (self.vision_patch_size or 32):
            raise ValueError(f"images of {self.image_resolution} pixels are smaller than a patch")

    @classmethod
    def from_state_dict(cls, state: Mapping[str, torch.Tensor]) -> "Sizes":
        """Infer the sizes from weights with OpenAI's parameter names.

        The number of heads and the activation can't be inferred. This function assumes that they are chosen as in
        OpenAI's models: each head has a width of 64, and the activation is QuickGELU.

        Raises:
            KeyError: a weight is missing. The message is the name of the missing weight.
            ValueError: a weight has a wrong shape.
        """
        vision = _vit(state) if "visual.proj" in state else _resnet(state)
        (text_width,) = _shape(state, "ln_final.weight", 1)
        return cls(
            embed_dim=_shape(state, "text_projection", 2)[1],
            image_resolution=vision.resolution,
            vision_layers=vision.layers,
            vision_width=vision.width,
            vision_patch_size=vision.patch_size,
            vision_heads=vision.heads,
            vision_mlp=vision.mlp,
            context_length=_shape(state, "positional_embedding", 2)[0],
            vocab_size=_shape(state, "token_embedding.weight", 2)[0],
            transformer_width=text_width,
            transformer_heads=text_width // 64,
            transformer_layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
            transformer_mlp=_shape(state, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
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
    width, _, _, patch_size = _shape(state, "visual.conv1.weight", 4)
    grid = _grid(state, "visual.positional_embedding")  # patches per side (without CLS)
    return _VisionSizes(
        resolution=grid * patch_size,
        layers=_count(state, r"visual\.transformer\.resblocks\.(\d+)\."),
        width=width,
        patch_size=patch_size,
        heads=width // 64,
        mlp=_shape(state, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
    )


def _resnet(state: Mapping[str, torch.Tensor]) -> _VisionSizes:
    width = _shape(state, "visual.layer1.0.conv1.weight", 4)[0]
    grid = _grid(state, "visual.attnpool.positional_embedding")  # positions per side
    return _VisionSizes(
        resolution=grid * 32,
        layers=tuple(_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)),
        width=width,
        patch_size=0,
        heads=width * 32 // 64,
        mlp=0,
    )


def _shape(state: Mapping[str, torch.Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a weight. Raises ValueError if the weight doesn't have this number of dimensions."""
    shape = tuple(state[name].shape)
    if len(shape) != dimensions:
        raise ValueError(f"the weight {name} has the shape {shape}, but it must have {dimensions} dimensions")
    return shape


def _grid(state: Mapping[str, torch.Tensor], name: str) -> int:
    """Return the number of positions per side. A positional embedding has grid ** 2 + 1 rows."""
    return round(max(_shape(state, name, 2)[0] - 1, 0) ** 0.5)


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    """Match the names of the weights with `pattern`. Return how many different texts the pattern's group captures."""
    return len({match[1] for match in (re.match(pattern, name) for name in state) if match})
