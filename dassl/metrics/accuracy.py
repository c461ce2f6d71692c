"""`compute_accuracy`: the accuracy that trainers log for each training batch."""

from collections.abc import Sequence

import torch


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Return the top-k accuracy in percent for each k in `topk`, as a list of tensors of shape (1,).

    Args:
        output: logits (batch, classes); or a tuple or list whose first element is the logits.
        target: labels (batch,).
        topk: values of k. A prediction is correct if the label has one of the k highest logits.
    """
    logits = output if isinstance(output, torch.Tensor) else output[0]
    ranked = logits.topk(min(max(topk), logits.shape[1])).indices  # (batch, max k)
    hits = ranked == target.view(-1, 1)  # (batch, max k)
    return [hits[:, :k].any(1).float().mean().mul(100).view(1) for k in topk]
