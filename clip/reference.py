"""Runs a transformer that a user may have replaced, wrapped or hooked. Both towers' reference paths call it.

A user's `forward` may take only x. So the towers' inputs are passed as arguments only to `Transformer.forward` itself.
"""

from collections.abc import Callable, Iterable, Sized

import torch
from torch import nn

from clip.blocks import Transformer, run_blocks
from clip.inputs import TowerInputs


def count_layers(transformer: nn.Module, built: int) -> int:
    """Return the number of the transformer's blocks. If a wrapper hides them, return `built`.

    Args:
        built: number of blocks with which the tower was built.
    """
    blocks = getattr(transformer, "resblocks", None)
    return len(blocks) if isinstance(blocks, Sized) else built


def run_transformer(
    transformer: nn.Module,
    x: torch.Tensor,
    change_input: Callable[[torch.Tensor, int], torch.Tensor],
    inputs: TowerInputs,
) -> torch.Tensor:
    """Run all layers on x (length, batch, width).

    If `inputs` change only layer 0, the whole transformer is called. If they change later layers and its `forward` was
    replaced, each of its `resblocks` is called instead.

    Args:
        change_input: function that applies the prompts and inserted tokens of a layer to this layer's input.

    Raises:
        TypeError: `inputs` change single layers, but the transformer has no `resblocks`; or a block that has an
            adapter was replaced, and its `forward` doesn't take `adapter`.
    """
    if not inputs.adapters and max([*inputs.prompts, *inputs.inserted], default=0) == 0:
        return transformer(change_input(x, 0))
    if type(transformer).forward is Transformer.forward and "forward" not in vars(transformer):
        # Keyword arguments, because a forward pre-hook may replace the positional ones by x alone.
        return transformer(x, change_input=change_input, adapters=inputs.adapters)
    blocks = getattr(transformer, "resblocks", None)
    if not isinstance(blocks, Iterable):
        raise TypeError(
            "adapters, and prompts or inserted tokens after layer 0, need the transformer's `resblocks`, but "
            f"{type(transformer).__name__} has none"
        )
    return run_blocks(blocks, x, change_input, inputs.adapters)
