"""`build_optimizer` returns the optimiser that OPTIM.NAME names. Trainers call this function in `build_model`.

A trainer may pass a module that has frozen parameters. The optimiser skips frozen parameters, because they have no
gradient.
"""

from collections.abc import Iterable

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.optim.radam import RAdam
from dassl.utils.errors import InputError, unknown


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: CfgNode, param_groups: list[dict] | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser that `optim_cfg.NAME` names.

    Args:
        model: a module, or an iterable of parameters or parameter groups.
        optim_cfg: the OPTIM node of the config.
        param_groups: parameter groups to optimise instead of the parameters of `model`.

    Raises:
        InputError: the name is unknown, or OPTIM.STAGED_LR is set and `model` isn't a module.
    """
    params = param_groups if param_groups is not None else _parameters(model, optim_cfg)
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    adam = {"betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2), "eps": optim_cfg.ADAM_EPS}
    builders = {
        "adam": lambda: torch.optim.Adam(params, **adam, **common),
        "amsgrad": lambda: torch.optim.Adam(params, amsgrad=True, **adam, **common),
        "adamw": lambda: torch.optim.AdamW(params, **adam, **common),
        "radam": lambda: RAdam(params, **adam, **common),
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


def _parameters(model: nn.Module | Iterable, optim_cfg: CfgNode) -> Iterable:
    """Return the model's parameters, in two groups if STAGED_LR is set.

    One group contains the parameters of the top-level children that NEW_LAYERS names. Its learning rate is LR. The
    other group contains all other parameters. Its learning rate is LR * BASE_LR_MULT.
    """
    if not optim_cfg.STAGED_LR:
        return model.parameters() if isinstance(model, nn.Module) else model
    if not isinstance(model, nn.Module):
        raise InputError("OPTIM.STAGED_LR needs a module, because OPTIM.NEW_LAYERS names children of a module")
    whole = model.module if isinstance(model, nn.DataParallel) else model
    new: list = []
    base: list = []
    for name, child in whole.named_children():
        (new if name in optim_cfg.NEW_LAYERS else base).extend(child.parameters())
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
