"""Functions for checkpoints and parameters, with the same names as in Dassl. Trainers call them.

Each checkpoint folder has a pointer file, which contains the name of the checkpoint from which a run resumes. This is
the newest checkpoint, except that a run never resumes from the checkpoint of the best model (`BEST`).
"""

import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from dassl.utils import unpickle
from dassl.utils.errors import InputError
from dassl.utils.files import saved_epochs, write_atomically, write_text

__all__ = [
    "count_num_param",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
]

#: Content of a checkpoint file: state_dict, epoch, optimizer, scheduler and val_result.
Checkpoint = dict[str, Any]
POINTER = "checkpoint"  # file in each checkpoint folder; it contains the name of the newest checkpoint
BEST = "model-best.pth.tar"  # name of the checkpoint of the best model


def save_checkpoint(
    state: Checkpoint,
    save_dir: str | Path,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> Path:
    """Save `state` in the folder `save_dir`, and return the path of the checkpoint.

    The file is called `model_name`. If `model_name` is "", the file is called `model-best.pth.tar` if `is_best` is
    True, or else `model.pth.tar-<epoch>`. The pointer file is then updated, unless `model-best.pth.tar` was saved.
    """
    folder = Path(save_dir)
    if remove_module_from_keys:
        state = state | {"state_dict": _without_module_prefix(state["state_dict"])}
    name = model_name or (BEST if is_best else f"model.pth.tar-{state['epoch']}")
    with write_atomically(folder / name) as unfinished:
        torch.save(state, unfinished)
    if name != BEST:
        write_text(name + "\n", folder / POINTER)
    print(f"Checkpoint saved to {folder / name}")
    return folder / name


def load_checkpoint(fpath: str | Path | None) -> Checkpoint:
    """Return the content of a checkpoint, with tensors on the CPU. Code in the file isn't executed.

    Checkpoints of the original code also contain a pickled scheduler object, which is replaced by `unpickle.Inert`.

    Raises:
        ValueError: the path is None.
        FileNotFoundError: the file doesn't exist.
        InputError: the file can't be read as a checkpoint.
    """
    if fpath is None:
        raise ValueError("File path is None")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    device = "cpu"  # load_state_dict will copy the tensors to the model's device
    try:
        try:
            return torch.load(fpath, device, weights_only=True)
        except pickle.UnpicklingError:
            return torch.load(fpath, device, weights_only=False, pickle_module=unpickle)
    except Exception as error:  # reading a broken file can raise almost any error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"can't read the checkpoint {fpath}: {reason}") from error


def find_checkpoint(folder: Path, epoch: int | None = None, prefers_best: bool = False) -> Path:
    """Return the path of a checkpoint in a model's folder.

    If `epoch` is given, return the checkpoint of that epoch. Otherwise, return the last checkpoint or the best one.

    Args:
        epoch: number of an epoch, counted from 1.
        prefers_best: if `epoch` is None and the last and the best checkpoint both exist, return the best checkpoint
            (True) or the last checkpoint (False). If only one of them exists, return it.

    Raises:
        FileNotFoundError: the checkpoint doesn't exist. The message lists the checkpoints in the folder.
    """
    found = saved_epochs(folder)
    best = folder / BEST
    if epoch is not None:
        if epoch in found:
            return found[epoch]
    elif best.is_file() and (not found or prefers_best):
        return best
    elif found:
        return found[max(found)]
    files = ", ".join(sorted(p.name for p in folder.glob("*.tar*"))) if folder.is_dir() else "the folder is missing"
    wanted = "no checkpoint" if epoch is None else f"no model.pth.tar-{epoch}"
    raise FileNotFoundError(f"{wanted} in {folder} (checkpoints found there: {files or 'none'})")


def resume_from_checkpoint(
    fdir: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
) -> int:
    """Load the checkpoint that the pointer file in `fdir` names. Return the index of the next epoch.

    The states of `model`, `optimizer` and `scheduler` are replaced by the states in the checkpoint.

    Raises:
        InputError: the tensors of the checkpoint and of the model differ in their names or shapes.
    """
    path = Path(fdir) / (Path(fdir) / POINTER).read_text(encoding="utf-8").strip()
    print(f'Loading checkpoint from "{path}"')
    checkpoint = load_checkpoint(path)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is a checkpoint of another model: {' '.join(str(error).split())}") from error
    if optimizer is not None and checkpoint.get("optimizer"):
        optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler"):
        if isinstance(checkpoint["scheduler"].get("successor"), unpickle.Inert):
            for _ in range(checkpoint["epoch"]):  # the original code's schedule can't be loaded, so repeat its steps
                scheduler.step()
        else:
            scheduler.load_state_dict(checkpoint["scheduler"])
    print(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str | Path) -> None:
    """Copy each weight of a checkpoint to the model, if the model has a weight with the same name and shape.

    Print the names of the weights that are skipped. Warn if all weights are skipped.
    """
    checkpoint = load_checkpoint(weight_path)
    state = _without_module_prefix(checkpoint.get("state_dict", checkpoint))
    current = model.state_dict()
    matching = {name: w for name, w in state.items() if name in current and current[name].shape == w.shape}
    model.load_state_dict(current | matching)
    if not matching:
        warnings.warn(f"no weight in {weight_path} has the same name and shape as a weight of the model", stacklevel=2)
        return
    print(f"Successfully loaded pretrained weights from {weight_path}")
    discarded = [name for name in state if name not in matching]
    if discarded:
        print(f"Layers discarded due to unmatched keys or size: {discarded}")


def count_num_param(
    model: nn.Module | None = None, params: Iterable[torch.Tensor | dict[str, Any]] | None = None
) -> int:
    """Return the number of elements in the parameters of `model`, or in `params` (tensors or parameter groups)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    return sum(count_num_param(params=p["params"]) if isinstance(p, dict) else p.numel() for p in params)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train only the named top-level children. All other children are frozen and set to evaluation mode.

    Raises:
        ValueError: one of the names isn't the name of a child of the model.
    """
    names = [open_layers] if isinstance(open_layers, str) else open_layers
    children = dict(model.named_children())
    for name in names:
        if name not in children:
            raise ValueError(f'the model has no layer "{name}". It has these layers: {", ".join(children)}')
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)


def _without_module_prefix(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict without the prefix "module." that DataParallel adds to the parameter names."""
    return OrderedDict((name.removeprefix("module."), value) for name, value in state_dict.items())
