"""Deep prompts of one tower under the names that they have in official checkpoints of MaPLe's code base."""

from collections.abc import Sequence

import torch
from torch import nn

from clip.model import CLIP
from clip.vision import VisionTransformer
from dassl.utils import InputError


class TowerPrompts(nn.Module):
    """Prompts (n, width) of some layers of a tower, drawn from N(0, 0.02**2).

    Args:
        layers: the layers with prompts, from 0. Layer 0 is named `VPT`, layer i
            `transformer.resblocks.<i>.VPT_shallow`.
    """

    def __init__(self, layers: Sequence[int], n: int, width: int):
        super().__init__()
        self.layers = list(layers)
        blocks = nn.ModuleDict()
        for layer in layers:
            prompt = nn.Parameter(nn.init.normal_(torch.empty(n, width), std=0.02))
            if layer == 0:
                self.VPT = prompt
            else:
                blocks[str(layer)] = nn.Module()
                blocks[str(layer)].register_parameter("VPT_shallow", prompt)
        self.transformer = nn.Module()
        self.transformer.add_module("resblocks", blocks)

    def prompts(self) -> dict[int, torch.Tensor]:
        """layer -> prompts (n, width)"""
        return dict(zip(self.layers, self.parameters(), strict=True))


def check_depth(clip: CLIP, depth: int, key: str, towers: Sequence[str] = ("vision", "text")) -> None:
    """Raise InputError unless the named towers have `depth` layers that take prompts. `key` is the config key."""
    if "vision" in towers and not isinstance(clip.visual, VisionTransformer):
        raise InputError("the image tower is a ResNet, which takes no prompts: choose a ViT (MODEL.BACKBONE)")
    for tower in towers:
        layers = clip.sizes.vision_layers if tower == "vision" else clip.sizes.transformer_layers
        if not 1 <= depth <= layers:  # type: ignore[operator]  # a ViT's number of layers is an int
            raise InputError(f"{key} {depth}: the {tower} tower has layers 1 to {layers}")
