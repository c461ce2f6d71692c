"""`torch.compile` for the towers: fuses the part of every block that follows the attention.

`PromptTrainer` calls `compile_blocks` if TRAINER.COMPILE is set. The feature cache asks `is_compiled`, since compiled
code rounds differently.
"""

import torch
from torch import nn

from clip.blocks import ResidualAttentionBlock


def compile_blocks(model: nn.Module) -> None:
    """Compile the output projection and MLP of every block, at their first use.

    Needs a C++ compiler on a CPU, Triton on a GPU.
    """
    for block in model.modules():
        if isinstance(block, ResidualAttentionBlock):
            block.output_and_mlp = torch.compile(block.output_and_mlp, dynamic=True)  # type: ignore[method-assign]


def is_compiled(model: nn.Module) -> bool:
    """Whether `compile_blocks` changed a block of `model`."""
    return any("output_and_mlp" in vars(part) for part in model.modules())
