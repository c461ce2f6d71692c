"""Checks that learned parameters and logits are finite. A run that diverges must end with an error, not with a result.

`TrainerBase` and `SimpleTrainer` call these functions.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn


def check_parameters(models: Mapping[str, nn.Module | None], when: str) -> None:
    """Raise FloatingPointError if a learned parameter of a model is infinite or NaN.

    Args:
        models: {name: model}.
        when: end of the message, such as "after epoch 3".
    """
    learned = {
        f"{name}.{key}": parameter
        for name, model in models.items()
        if model is not None
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    finite = [torch.isfinite(tensor).all() for tensor in learned.values()]
    if finite and not torch.stack([flag.cpu() for flag in finite]).all():
        wrong = next(name for name, flag in zip(learned, finite, strict=True) if not flag)
        raise FloatingPointError(f"the parameter {wrong} is infinite or NaN {when}. Try a lower OPTIM.LR")


def check_logits(logits: torch.Tensor, paths: Sequence[str]) -> None:
    """Raise FloatingPointError if the logits (batch, classes) of an image are infinite or NaN.

    Args:
        paths: paths of the images, for the message.
    """
    finite = torch.isfinite(logits).flatten(1).all(dim=1)  # (batch,)
    if not finite.all():
        raise FloatingPointError(f"the logits of {paths[finite.tolist().index(False)]} are infinite or NaN")
