"""Decides how an optimiser computes its step, and lets a captured CUDA graph read the learning rate.

`build_optimizer` calls `can_fuse`, `prepare_fused` and `keep_implementation`. `trainers/common/graph.py` uses the rest.

torch has three implementations of a step: one kernel for all parameters (fused), one kernel for each operation
(foreach), and one kernel for each operation and parameter. The fused step is the only one that takes the scale of
`GradScaler` as a tensor, so mixed precision doesn't wait for the GPU. The three implementations round differently.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

#: Types of devices that use the fused step. On other devices, torch chooses between the other implementations.
FUSED_DEVICES = ("cuda",)
#: Keys of a parameter group that select the implementation.
_IMPLEMENTATION = ("fused", "foreach", "capturable")


def can_fuse(groups: Sequence[dict]) -> bool:
    """Return whether all parameters of the groups can use the fused step. Each group's "params" must be a list."""
    params = [param for group in groups for param in group["params"]]
    return bool(params) and all(
        isinstance(param, torch.Tensor) and param.is_floating_point() and param.device.type in FUSED_DEVICES
        for param in params
    )


def is_fused(optimizer: Optimizer) -> bool:
    """Return whether the optimiser uses the fused step."""
    return all(group.get("fused") for group in optimizer.param_groups)


def prepare_fused(optimizer: Optimizer) -> None:
    """Make a fused optimiser as correct as a plain one. Call this function before the first step.

    Two things are missing in torch 2.4 to 2.14. The fused step doesn't count as a change of the parameters, so caches
    that check `Parameter._version` would become stale. And SGD allocates the momentum in the first step without
    initialising it. If `GradScaler` skips this step because a gradient is infinite, the next step reads undefined
    values. So the momentum starts at zero here, which gives the same first step if there is no dampening.
    """
    optimizer.register_step_post_hook(lambda optimizer, args, kwargs: note_change(optimizer))
    for group in optimizer.param_groups:
        if group.get("momentum"):
            for param in group["params"]:
                if param.requires_grad:
                    optimizer.state[param]["momentum_buffer"] = torch.zeros_like(param)


def note_change(optimizer: Optimizer) -> None:
    """Increment `Parameter._version` of all parameters. Call this after a change of which torch doesn't know."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            torch.autograd.graph.increment_version(param)


def keep_implementation(optimizer: Optimizer) -> None:
    """Make `optimizer.load_state_dict` keep the optimiser's own implementation.

    Without this, torch takes the implementation from the state dict, for example the fused step of a GPU on a CPU.
    """
    optimizer.register_load_state_dict_pre_hook(_with_own_implementation)


def _with_own_implementation(optimizer: Optimizer, state_dict: dict) -> dict | None:
    groups = optimizer.param_groups
    if len(groups) != len(state_dict["param_groups"]):
        return None  # torch raises the error
    loaded = [
        saved | {key: group[key] for key in _IMPLEMENTATION if key in group}
        for saved, group in zip(state_dict["param_groups"], groups, strict=True)
    ]
    return state_dict | {"param_groups": loaded}


class TensorRates:
    """Learning rates as tensors, which a captured step reads.

    A CUDA graph repeats the numbers that were passed to its kernels. Therefore, a step that is captured must read the
    learning rate from a tensor. Outside of `applied`, the parameter groups hold plain numbers, so schedules,
    logs and checkpoints don't change.

    Args:
        optimizer: a fused optimiser.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.values = [float(group["lr"]) for group in optimizer.param_groups]
        device = next(param.device for group in optimizer.param_groups for param in group["params"])
        self.tensors = [torch.tensor(value, device=device) for value in self.values]  # 0-dimensional, float32

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside this context, the parameter groups hold the tensors, filled with the current learning rates."""
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for number, rate in enumerate(rates):
            if rate != self.values[number]:
                self.tensors[number].fill_(rate)
                self.values[number] = rate
        for group, tensor in zip(groups, self.tensors, strict=True):
            group["lr"] = tensor
        try:
            yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate


@contextmanager
def capturable(optimizer: Optimizer) -> Iterator[None]:
    """Inside this context, torch allows to capture the steps of Adam and AdamW.

    torch would warn about a capturable optimiser that runs without a graph, so the setting isn't permanent. The
    fused step is the same with and without this setting.
    """
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, value in zip(groups, before, strict=True):
            group["capturable"] = value
