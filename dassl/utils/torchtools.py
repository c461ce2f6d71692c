"""Checkpoints and parameters, under Dassl's names. Trainers call these functions.

A file in each checkpoint folder, the pointer, names the newest checkpoint. A resume reads it. The best checkpoint is
never the newest, so that a resume continues from the last epoch.
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
from dassl.utils.files import write_atomically, write_text

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
POINTER = "checkpoint"  # file beside the checkpoints that names the newest one
BEST = "model-best.pth.tar"


def save_checkpoint(
    state: Checkpoint,
    save_dir: str | Path,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> Path:
    """Save `state` as `model.pth.tar-<epoch>`, or as `model_name`, and return the path.

    The pointer file then names this checkpoint. A best model is saved as `model-best.pth.tar`; the pointer file doesn't
    change, because a resume must continue from the last epoch.
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
    """Content of a checkpoint, with tensors on the CPU. Runs no code from the file.

    Official checkpoints also pickle a scheduler object. Such objects are replaced by `unpickle.Inert`.

    Raises:
        ValueError: the path is None.
        FileNotFoundError: no such file.
        InputError: the file can't be read as a checkpoint.
    """
    if fpath is None:
        raise ValueError("File path is None")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    device = "cpu"  # load_state_dict copies to the model's device
    try:
        try:
            return torch.load(fpath, device, weights_only=True)
        except pickle.UnpicklingError:
            return torch.load(fpath, device, weights_only=False, pickle_module=unpickle)
    except Exception as error:  # a broken file can raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"can't read the checkpoint {fpath}: {reason}") from error


def resume_from_checkpoint(
    fdir: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
) -> int:
    """Load the newest checkpoint of `fdir` into model, optimizer and scheduler. Returns the index of the next epoch.

    Raises:
        InputError: names or shapes of the checkpoint's tensors differ from the model's.
    """
    path = Path(fdir) / (Path(fdir) / POINTER).read_text().strip()
    print(f'Loading checkpoint from "{path}"')
    checkpoint = load_checkpoint(path)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is of another model: {' '.join(str(error).split())}") from error
    if optimizer is not None and checkpoint.get("optimizer"):
        optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler"):
        if isinstance(checkpoint["scheduler"].get("successor"), unpickle.Inert):
            for _ in range(checkpoint["epoch"]):  # an official file: its state is lost, so repeat its steps
                scheduler.step()
        else:
            scheduler.load_state_dict(checkpoint["scheduler"])
    print(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str | Path) -> None:
    """Copy the weights whose names and shapes match the model's. Prints the skipped names; warns if none matches."""
    checkpoint = load_checkpoint(weight_path)
    state = _without_module_prefix(checkpoint.get("state_dict", checkpoint))
    current = model.state_dict()
    matching = {name: w for name, w in state.items() if name in current and current[name].shape == w.shape}
    model.load_state_dict(current | matching)
    if not matching:
        warnings.warn(f"no weight of {weight_path} fits the model", stacklevel=2)
        return
    print(f"Successfully loaded pretrained weights from {weight_path}")
    discarded = [name for name in state if name not in matching]
    if discarded:
        print(f"Layers discarded due to unmatched keys or size: {discarded}")


def count_num_param(
    model: nn.Module | None = None, params: Iterable[torch.Tensor | dict[str, Any]] | None = None
) -> int:
    """Number of elements in the parameters of `model`, or in `params` (tensors or parameter groups)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    return sum(count_num_param(params=p["params"]) if isinstance(p, dict) else p.numel() for p in params)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train only the named top-level children. All other children are frozen and set to evaluation mode.

    Raises:
        ValueError: the model has no child of such a name.
    """
    names = [open_layers] if isinstance(open_layers, str) else open_layers
    children = dict(model.named_children())
    for name in names:
        if name not in children:
            raise ValueError(f'"{name}" is no layer of the model; its layers are: {", ".join(children)}')
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)


def _without_module_prefix(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict without the prefix "module." that DataParallel adds to names."""
    return OrderedDict((name.removeprefix("module."), value) for name, value in state_dict.items())
