"""What a method hands to a tower beside images or class names: prompts, inserted tokens and adapters, by layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class TowerInputs:
    """A method's inputs to one tower. The default is empty: CLIP as it is. Layers count from 0.

    Args:
        prompts: layer -> prompts (n, width), or (G, n, width) for the text tower, at that layer's input.
    """

    prompts: Mapping[int, torch.Tensor] = field(default_factory=dict)


NO_INPUTS = TowerInputs()
