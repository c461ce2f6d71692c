"""Optimisers by config."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dassl.optim.radam import RAdam
from dassl.utils.errors import InputError, unknown


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: Any, param_groups: list[dict] | None = None
) -> torch.optim.Optimizer:
    """The optimiser that `optim_cfg` (the OPTIM node) names.

    Args:
        model: a module, whose parameters are all handed over, or an iterable of parameters or groups.
        param_groups: taken instead of the model's parameters where given.

    Raises:
        InputError: an unknown name, or STAGED_LR with something that is no module.
    """
    params = param_groups if param_groups is not None else _parameters(model, optim_cfg)
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    builders = {
        "adam": lambda: torch.optim.Adam(params, betas=betas, **common),
        "amsgrad": lambda: torch.optim.Adam(params, betas=betas, amsgrad=True, **common),
        "adamw": lambda: torch.optim.AdamW(params, betas=betas, **common),
        "radam": lambda: RAdam(params, betas=betas, **common),
        "rmsprop": lambda: torch.optim.RMSprop(
            params, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common
        ),
        "sgd": lambda: torch.optim.SGD(
            params,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **common,
        ),
    }
    if optim_cfg.NAME not in builders:
        raise unknown("optimiser (OPTIM.NAME)", optim_cfg.NAME, builders)
    return builders[optim_cfg.NAME]()


def _parameters(model: nn.Module | Iterable, optim_cfg: Any) -> Iterable:
    """The model's parameters; with STAGED_LR in two groups, of NEW_LAYERS and of all others."""
    if not optim_cfg.STAGED_LR:
        return model.parameters() if isinstance(model, nn.Module) else model
    if not isinstance(model, nn.Module):
        raise InputError("OPTIM.STAGED_LR needs a module, whose children's names are compared with OPTIM.NEW_LAYERS")
    whole = model.module if isinstance(model, nn.DataParallel) else model
    new: list = []
    base: list = []
    for name, child in whole.named_children():
        (new if name in optim_cfg.NEW_LAYERS else base).extend(child.parameters())
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
