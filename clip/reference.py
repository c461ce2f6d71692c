"""Runs a transformer that a user may have replaced, wrapped or hooked. Both towers' reference paths use this module.

A user's `forward` may accept only x. Therefore prompts and adapters are passed as arguments only if `forward` is still
`Transformer.forward`.
"""

from collections.abc import Callable, Iterable, Sized

import torch
from torch import nn

from clip.blocks import Transformer, run_blocks
from clip.inputs import TowerInputs


def count_layers(transformer: nn.Module, built: int) -> int:
    """Return how many blocks the transformer has. If a wrapper hides the blocks, return `built` instead.

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

    The whole transformer is called if `inputs` change only the input of layer 0, or if the transformer's `forward` is
    the original one. Otherwise, the transformer's `resblocks` are called one by one.

    Args:
        change_input: function that is called with a layer's input and number. It puts the layer's prompts and inserted
            tokens into the input.

    Raises:
        TypeError: the blocks must be called one by one, but the transformer has no `resblocks`; or a block that has an
            adapter was replaced, and the new block's `forward` doesn't accept `adapter`.
    """
    if not inputs.adapters and max([*inputs.prompts, *inputs.inserted], default=0) == 0:
        return transformer(change_input(x, 0))
    if type(transformer).forward is Transformer.forward and "forward" not in vars(transformer):
        # Use keyword arguments, because a forward pre-hook may replace all positional arguments by x.
        return transformer(x, change_input=change_input, adapters=inputs.adapters)
    blocks = getattr(transformer, "resblocks", None)
    if not isinstance(blocks, Iterable):
        raise TypeError(
            "adapters, and prompts or inserted tokens after layer 0, need the transformer's `resblocks`, but "
            f"{type(transformer).__name__} has none"
        )
    return run_blocks(blocks, x, change_input, inputs.adapters)
