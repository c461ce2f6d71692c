"""Functions for checkpoints and parameters, with the same names as in Dassl. Trainers call them.

Each checkpoint folder has a pointer file, which contains the name of the checkpoint from which a run resumes. This is
the newest checkpoint, except that a run never resumes from the checkpoint of the best model (`BEST`). The names of the
files are in `checkpoint_files.py`. Each checkpoint contains its checksum.
"""

import io
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from dassl.utils.checkpoint_content import (
    check_entries,
    has_foreign_schedule,
    load_optimizer,
    load_schedule,
    report_misfit,
)
from dassl.utils.checkpoint_files import BEST as BEST
from dassl.utils.checkpoint_files import NEXT_BEST
from dassl.utils.checkpoint_files import POINTER as POINTER
from dassl.utils.checkpoint_files import find_checkpoint as find_checkpoint
from dassl.utils.checksums import check_sealed, seal
from dassl.utils.errors import InputError
from dassl.utils.files import write_bytes, write_text
from untrusted import torch_files
from untrusted.pickles import Malformed

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


def save_checkpoint(
    state: Checkpoint,
    save_dir: str | Path,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> Path:
    """Save `state` in the folder `save_dir`, with tensors on the CPU, and return the path of the checkpoint.

    The file is called `model_name`. If `model_name` is "", the file is called `model-best.pth.tar` if `is_best` is
    True, or else `model.pth.tar-<epoch>`. The pointer file is then updated, unless the best model was saved.
    """
    folder = Path(save_dir)
    if remove_module_from_keys:
        state = state | {"state_dict": _without_module_prefix(state["state_dict"])}
    name = model_name or (BEST if is_best else f"model.pth.tar-{state['epoch']}")
    # A file with tensors on a GPU doesn't open on a machine without one.
    save_sealed(_on_cpu(state), folder / name)
    if name not in (BEST, NEXT_BEST):
        write_text(name + "\n", folder / POINTER)
    print(f"Checkpoint saved to {folder / name.removesuffix('.next')}")
    return folder / name


def save_sealed(content: object, path: Path) -> None:
    """Save `content` like `torch.save`, but atomically and with a checksum. May raise DiskFullError."""
    stream = io.BytesIO()  # if torch wrote to the disk itself, a full disk would raise an error without a reason
    torch.save(content, stream)
    write_bytes(seal(stream), path)


def load_checkpoint(fpath: str | Path | None) -> Checkpoint:
    """Return the content of a checkpoint, with tensors on the CPU. Code in the file isn't executed.

    Checkpoints of the original code also contain a pickled scheduler object, which becomes a `StandIn`.

    Raises:
        ValueError: the path is None.
        FileNotFoundError: the file doesn't exist.
        InputError: the file is damaged, or can't be read as a checkpoint.
    """
    if fpath is None:
        raise ValueError("File path is None")
    if not os.path.exists(fpath):
        raise FileNotFoundError(f'File is not found at "{fpath}"')
    try:
        check_sealed(fpath)
        content = torch_files.read(fpath)
    except Malformed as error:
        raise InputError(f"can't read the checkpoint {fpath}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"can't read the checkpoint {fpath}: its content isn't a dict")
    check_entries(content, fpath)
    return content


def resume_from_checkpoint(
    fdir: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
) -> int:
    """Load the checkpoint that the pointer file in `fdir` names. Return the index of the next epoch.

    The states of `model`, `optimizer` and `scheduler` are replaced by the states in the checkpoint.

    Raises:
        InputError: the checkpoint is of another model, optimizer or schedule.
    """
    path = Path(fdir) / (Path(fdir) / POINTER).read_text(encoding="utf-8").strip()
    print(f'Loading checkpoint from "{path}"')
    return restore(load_checkpoint(path), path, model, optimizer, scheduler)


def restore(
    checkpoint: Checkpoint,
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
) -> int:
    """Like `resume_from_checkpoint`, but for the loaded content of the checkpoint `path`."""
    for entry in ("state_dict", "epoch"):
        if entry not in checkpoint:
            raise InputError(f"can't resume from {path}, because it has no entry {entry}")
    with report_misfit(path, "model"):
        model.load_state_dict(checkpoint["state_dict"])
    if optimizer is not None and not checkpoint.get("optimizer"):
        print(f"Warning: {path} has no state of the optimizer, so the training continues with a new one")
    elif optimizer is not None:
        with report_misfit(path, "optimizer"):
            load_optimizer(optimizer, checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler"):
        with report_misfit(path, "schedule"):
            if has_foreign_schedule(checkpoint["scheduler"]):
                for _ in range(checkpoint["epoch"]):  # repeat the steps instead
                    scheduler.step()
            else:
                load_schedule(scheduler, checkpoint["scheduler"])
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


def _on_cpu(value: object) -> object:
    """Return `value`, with all tensors in nested dicts, lists and tuples moved to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        moved = {key: _on_cpu(item) for key, item in value.items()}
        return OrderedDict(moved) if isinstance(value, OrderedDict) else moved
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return tuple(map(_on_cpu, value)) if type(value) is tuple else value


def _without_module_prefix(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict without the prefix "module." that DataParallel adds to the parameter names."""
    return OrderedDict((name.removeprefix("module."), value) for name, value in state_dict.items())
