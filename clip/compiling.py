"""Applies `torch.compile` to the towers. In each block, only the steps after the attention are compiled.

`PromptTrainer` calls `compile_blocks` if TRAINER.COMPILE is set. Compiled code rounds differently, so the feature cache
stores the features of compiled towers separately. The feature cache calls `is_compiled` to recognise such towers.
"""

import torch
from torch import nn

from clip.blocks import ResidualAttentionBlock


def compile_blocks(model: nn.Module) -> None:
    """Compile the output projection and the MLP of every block. A block is compiled when it first runs.

    Compilation needs a C++ compiler on a CPU, and Triton on a GPU.
    """
    for block in model.modules():
        if isinstance(block, ResidualAttentionBlock):
            block.output_and_mlp = torch.compile(block.output_and_mlp, dynamic=True)  # type: ignore[method-assign]


def is_compiled(model: nn.Module) -> bool:
    """Return whether `compile_blocks` has compiled a block of `model`."""
    return any("output_and_mlp" in vars(part) for part in model.modules())
