"""Checks the entries of a checkpoint, and the states that an optimiser and a schedule have loaded from it.

`torchtools.py` calls these functions, because a checkpoint may be damaged or may come from anybody. A wrong state must
be an error when it is loaded. Otherwise, the training would fail later, or would continue with other numbers.
"""

import contextlib
import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dassl.utils.errors import InputError
from untrusted.pickles import StandIn


class _Entries(msgspec.Struct):
    """The entries on which the project relies. All are optional, because official checkpoints lack some."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    optimizer: dict[object, object] | None = None
    scheduler: dict[object, object] | None = None
    classnames: list[str | tuple[str, list[str]]] | None = None  # class names, or (task, its class names)
    template: str = ""
    text_chunk: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0
    val_results: list[float] = []  # results of all validations so far


def check_entries(content: Mapping[object, object], path: str | Path) -> None:
    """Raise InputError if an entry of a checkpoint has a wrong type or is out of range. Other entries are ignored."""
    state = content.get("state_dict")
    if isinstance(state, dict) and not all(isinstance(name, str) for name in state):
        raise InputError(f"can't read the checkpoint {path}: the name of a tensor isn't a text")
    known = {name: content[name] for name in _Entries.__struct_fields__ if name in content}
    try:
        msgspec.convert(known, _Entries)
    except msgspec.ValidationError as error:
        raise InputError(f"can't read the checkpoint {path}: {error}") from error


def load_optimizer(optimizer: Optimizer, saved: dict[str, object]) -> None:
    """Load an optimiser's state. Raises ValueError if it doesn't fit the optimiser and its parameters."""
    before = optimizer.state_dict()["param_groups"]
    names = [_names_of_state(optimizer, group) for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    _compare(before, optimizer.state_dict()["param_groups"], "param_groups")
    for group, expected in zip(optimizer.param_groups, names, strict=True):
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if state and expected is not None and set(state) != expected:
                raise ValueError(f"a parameter's state has {_listed(state)} instead of {_listed(expected)}")
            for name, value in state.items():
                _check_value(name, value, parameter)
            if expected is not None:
                _step(optimizer, group, _small(state))


def load_schedule(schedule: LRScheduler, saved: dict[str, object]) -> None:
    """Load a schedule's state. Raises ValueError if it doesn't fit the schedule."""
    before = copy.deepcopy(schedule.state_dict())
    schedule.load_state_dict(saved)
    _compare(before, schedule.state_dict(), "schedule")


@contextlib.contextmanager
def report_misfit(path: str | Path, what: str) -> Iterator[None]:
    """A context manager that turns the errors of a state that doesn't fit into an InputError for the file `path`."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(f"{path} is a checkpoint of another {what}: {' '.join(str(error).split())[:500]}") from error


def _names_of_state(optimizer: Optimizer, group: dict) -> set[str] | None:
    """Return the names of the values that an optimiser stores for a parameter. None: they can't be found out.

    A copy of the optimiser does a step on a parameter of one number.
    """
    try:
        return set(_step(optimizer, group, {}))
    except Exception:  # an optimiser of a third party may do anything
        return None


def _step(optimizer: Optimizer, group: dict, state: dict) -> dict:
    """Do a step on a parameter of one number, in a copy of the optimiser. Return the parameter's state.

    Raises ValueError if the group or `state` holds a number with which PyTorch can't compute a step, such as a step -1.
    """
    parameter = nn.Parameter(torch.zeros(1, device=group["params"][0].device if group["params"] else None))
    parameter.grad = torch.zeros_like(parameter)
    probe = copy.copy(optimizer)
    probe.state, probe.param_groups = defaultdict(dict), [{**group, "params": [parameter]}]
    if state:
        probe.state[parameter] = state
    try:
        type(optimizer).step(probe)
    except (ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(f"a step isn't possible: {error}") from error
    return probe.state[parameter]


def _small(state: dict) -> dict:
    """Return a copy of a parameter's state that fits a parameter of one number."""
    return {
        name: value.flatten()[:1].clone() if isinstance(value, torch.Tensor) and value.ndim else copy.deepcopy(value)
        for name, value in state.items()
    }


def _check_value(name: object, value: object, parameter: nn.Parameter) -> None:
    if isinstance(value, torch.Tensor):
        if value.shape not in (parameter.shape, ()):
            raise ValueError(f"{name} has the shape {tuple(value.shape)}, but its parameter {tuple(parameter.shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} has values that aren't finite")
    elif not (value is None or _is_number(value)):
        raise ValueError(f"{name} is a {type(value).__name__}")


def _compare(before: object, loaded: object, name: str) -> None:
    """Raise ValueError if a loaded state lacks an entry, has one of another type, or has an infinite number."""
    fits = True
    if isinstance(before, dict):
        fits = isinstance(loaded, dict) and set(before) <= set(loaded)
        if isinstance(loaded, dict) and fits:
            for key in before:
                _compare(before[key], loaded[key], f"{name}.{key}")
    elif isinstance(before, list | tuple):
        fits = isinstance(loaded, list | tuple) and len(before) == len(loaded)
        if isinstance(loaded, list | tuple) and fits:
            for first, second in zip(before, loaded, strict=True):
                _compare(first, second, name)
    elif _is_number(before):
        fits = _is_number(loaded)
    elif isinstance(before, bool | None):
        fits = isinstance(loaded, bool | None)
    if not fits:
        raise ValueError(f"{name} is {str(loaded)[:50]!r}, which doesn't fit {str(before)[:50]!r}")


def _is_number(value: object) -> bool:
    """Return whether `value` is a finite number, or a tensor with a single finite number."""
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and bool(torch.isfinite(value).all())
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _listed(names: object) -> str:
    return ", ".join(sorted(map(str, names))) if isinstance(names, Mapping | set) and names else "nothing"


def has_foreign_schedule(saved: Mapping[str, object]) -> bool:
    """Return whether a schedule's state holds a pickled schedule of the original code, which can't be loaded."""
    return isinstance(saved.get("successor"), StandIn)
