"""Accuracy of a batch."""

from collections.abc import Sequence

import torch


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Top-k accuracies in percent, one 1-element tensor for each k.

    Args:
        output: logits (batch, classes); of a tuple or list the first.
        target: labels (batch,).
    """
    logits = output if isinstance(output, torch.Tensor) else output[0]
    ranked = logits.topk(min(max(topk), logits.shape[1])).indices  # (batch, k)
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].any(1).float().mean().mul(100).view(1) for k in topk]
