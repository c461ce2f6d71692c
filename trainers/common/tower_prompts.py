"""Deep prompts of one tower. The parameters have the same names as in the official checkpoints of MaPLe's code."""

from collections.abc import Sequence

import torch
from torch import nn

from clip.model import CLIP
from clip.vision import VisionTransformer
from dassl.utils import InputError


class TowerPrompts(nn.Module):
    """Learned prompts (n, width) for some layers of a tower. Their initial values are drawn from N(0, 0.02**2).

    Args:
        layers: indices of the layers with prompts, from 0. The parameter of layer 0 is called `VPT`. The parameter of
            another layer i is called `transformer.resblocks.<i>.VPT_shallow`.
        n: number of prompts in each layer.
        width: width of the tower.
    """

    def __init__(self, layers: Sequence[int], n: int, width: int):
        super().__init__()
        if layers and n < 1:
            raise InputError(f"a layer needs at least 1 prompt (N_CTX_VISION, N_CTX_TEXT), not {n}")
        self.layers = sorted(layers)
        blocks = nn.ModuleDict()
        for layer in self.layers:
            prompt = nn.Parameter(nn.init.normal_(torch.empty(n, width), std=0.02))
            if layer == 0:
                self.VPT = prompt
            else:
                blocks[str(layer)] = nn.Module()
                blocks[str(layer)].register_parameter("VPT_shallow", prompt)
        self.transformer = nn.Module()
        self.transformer.add_module("resblocks", blocks)

    def prompts(self) -> dict[int, torch.Tensor]:
        """Return {layer: prompts}. The prompts of a layer are (n, width)."""
        return dict(zip(self.layers, self.parameters(), strict=True))


def check_depth(clip: CLIP, depth: int, key: str, towers: Sequence[str] = ("vision", "text")) -> None:
    """Raise InputError if a tower can't have prompts in its first `depth` layers.

    Args:
        depth: number of layers with prompts, at least 1.
        key: the config key of `depth`, for the error message.
    """
    if "vision" in towers and not isinstance(clip.visual, VisionTransformer):
        raise InputError("the image tower is a ResNet, which can't have prompts. Choose a ViT (MODEL.BACKBONE.NAME)")
    for tower in towers:
        layers = clip.sizes.vision_layers if tower == "vision" else clip.sizes.transformer_layers
        if not 1 <= depth <= layers:  # type: ignore[operator]  # a ViT's number of layers is an int
            raise InputError(f"{key} is {depth}, but the {tower} tower has layers 1 to {layers}: use one of them")
