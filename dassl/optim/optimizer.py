"""`build_optimizer` returns the optimiser that OPTIM.NAME names. Trainers call this function in `build_model`.

A trainer may pass a module that has frozen parameters. The optimiser skips frozen parameters, because they have no
gradient.
"""

from collections.abc import Iterable

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.optim.fused import can_fuse, is_fused, keep_implementation, prepare_fused
from dassl.optim.radam import RAdam
from dassl.utils.errors import InputError, unknown


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: CfgNode, param_groups: list[dict] | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser that `optim_cfg.NAME` names. On a CUDA GPU, SGD and Adam use torch's fused step.

    Move the model to its device before you call this function, because the device decides about the fused step.

    Args:
        model: a module, or an iterable of parameters or parameter groups.
        optim_cfg: the OPTIM node of the config.
        param_groups: parameter groups to optimise instead of the parameters of `model`.

    Raises:
        InputError: the name is unknown, or OPTIM.STAGED_LR is set and `model` isn't a module.
    """
    params = _groups(param_groups if param_groups is not None else _parameters(model, optim_cfg))
    fused = True if can_fuse(params) else None  # None: torch chooses
    # `prepare_fused` sets the momentum to zero, which would change the first step if there is dampening.
    fused_sgd = None if optim_cfg.SGD_DAMPNING else fused
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    adam = {"betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2), "eps": optim_cfg.ADAM_EPS}
    builders = {
        "adam": lambda: torch.optim.Adam(params, fused=fused, **adam, **common),
        "amsgrad": lambda: torch.optim.Adam(params, amsgrad=True, fused=fused, **adam, **common),
        "adamw": lambda: torch.optim.AdamW(params, fused=fused, **adam, **common),
        "radam": lambda: RAdam(params, **adam, **common),
        "rmsprop": lambda: torch.optim.RMSprop(
            params, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common
        ),
        "sgd": lambda: torch.optim.SGD(
            params,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            fused=fused_sgd,
            **common,
        ),
    }
    if optim_cfg.NAME not in builders:
        raise unknown("optimiser (OPTIM.NAME)", optim_cfg.NAME, builders)
    optimizer = builders[optim_cfg.NAME]()
    if is_fused(optimizer):
        prepare_fused(optimizer)
    keep_implementation(optimizer)
    return optimizer


def _groups(params: Iterable) -> list[dict]:
    """Return parameter groups for parameters or parameter groups. Like torch, turn "params" into a list in place."""
    params = list(params)
    groups = params if not params or isinstance(params[0], dict) else [{"params": params}]
    for group in groups:
        group["params"] = [group["params"]] if isinstance(group["params"], torch.Tensor) else list(group["params"])
    return groups


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
