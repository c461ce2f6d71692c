"""Resumes a run from its checkpoints, even if a kill or a damaged file has left them incomplete.

`TrainerBase` and `SimpleTrainer` call these functions. Every argument `folders` is a list with the checkpoint folder of
each registered model. The checkpoints of all models must be of the same epoch.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from dassl.utils.checkpoint_files import (
    BEST,
    EPOCH,
    NEXT_BEST,
    POINTER,
    checkpoints_to_resume,
    find_checkpoints,
    read_pointer,
    remove_old_checkpoints,
)
from dassl.utils.errors import InputError
from dassl.utils.files import rename, write_bytes, write_text
from dassl.utils.torchtools import Checkpoint, load_checkpoint

Loaded = list[tuple[Path, Checkpoint]]  # path and content of one checkpoint for each model


def load_newest(folders: Sequence[Path]) -> Loaded:
    """Return the newest checkpoints that can be read, one for each folder. Returns [] if a folder has no checkpoint.

    If a checkpoint is damaged, print a warning and try the epoch before.

    Raises:
        InputError: there are checkpoints, but none can be read.
    """
    reason = ""
    for paths in checkpoints_to_resume(folders):
        try:
            return [(path, _load(path)) for path in paths]
        except InputError as error:
            reason = str(error)
            print(f"Warning: {reason}. Looking for an earlier checkpoint")
    if reason:
        run = folders[0].parent
        raise InputError(f"no checkpoint in {run} can be read ({reason}). Delete {run} to train from the start")
    return []


def load_matching(folders: Sequence[Path], epoch: int | None, prefers_best: bool) -> Loaded:
    """Return the checkpoints to test, one for each folder. See `find_checkpoints` for the arguments.

    Raises:
        FileNotFoundError: a checkpoint doesn't exist.
        InputError: a checkpoint can't be read, or the checkpoints are of different epochs, because the training was
            killed while it replaced the best model's checkpoints.
    """
    loaded = [(path, _load(path)) for path in find_checkpoints(folders, epoch, prefers_best)]
    epochs = {checkpoint["epoch"] for _, checkpoint in loaded if "epoch" in checkpoint}
    if len(epochs) > 1:
        raise InputError(
            f"the best model in {folders[0].parent} is incomplete: its parts are of the epochs {sorted(epochs)}. "
            "Repeat the training's command to resume it"
        )
    return loaded


def _load(path: Path) -> Checkpoint:
    """Return the content of a checkpoint. Raises InputError if its epoch isn't the one in the file's name."""
    checkpoint = load_checkpoint(path)
    named = path.name.removeprefix(EPOCH)
    if named.isdigit() and checkpoint.get("epoch", int(named)) != int(named):
        raise InputError(f"can't read the checkpoint {path}: it was saved in the epoch {checkpoint['epoch']}")
    return checkpoint


def tidy(folders: Sequence[Path], last: int, freq: int) -> None:
    """Bring the checkpoint folders into the state in which epoch `last` has left them. 0: nothing is saved yet.

    Pointers name the checkpoint of this epoch. Files that a killed process has left, and checkpoints that
    TRAIN.CHECKPOINT_FREQ (`freq`) doesn't keep, are deleted.
    """
    for folder in folders:
        pointer = f"model.pth.tar-{last}"
        if (folder / pointer).is_file():
            if read_pointer(folder) != pointer:
                write_text(pointer + "\n", folder / POINTER)
        elif not last:
            (folder / POINTER).unlink(missing_ok=True)
        if folder.is_dir():
            remove_old_checkpoints(folder, last, freq)


def replace_best(folders: Sequence[Path]) -> None:
    """Let the next best model, which is saved completely, replace the best model.

    If this is interrupted, `restore_best` completes it. So the parts of the best model are always of one epoch.
    """
    for folder in folders:
        if (folder / NEXT_BEST).is_file():
            rename(folder / NEXT_BEST, folder / BEST)


def restore_best(folders: Sequence[Path], newest: Loaded, targets: Sequence[Path]) -> float:
    """Return the validation result of the best model so far. Returns -inf if no best model was chosen yet.

    If the run is resumed from another folder, the best model is copied to the folders `targets`.

    Args:
        newest: the checkpoints from which the run is resumed.

    Raises:
        InputError: the best model is lost, because a checkpoint is damaged or was deleted.
    """
    following = [_read_or_none(folder / NEXT_BEST) for folder in folders]
    epochs = {content["epoch"] for content in following if content}
    current = [_read_or_none(folder / BEST) for folder in folders]
    for epoch in epochs:  # at most one
        if all(epoch in (a and a["epoch"], b and b["epoch"]) for a, b in zip(current, following, strict=True)):
            replace_best(folders)
            current = [_read_or_none(folder / BEST) for folder in folders]
    found = [content for content in current if content]
    if not found and newest[0][1].get("val_result") is None and not newest[0][1].get("val_results"):
        return -math.inf
    if len(found) < len(folders) or len({content["epoch"] for content in found}) > 1:
        run = folders[0].parent
        raise InputError(
            f"the best model so far in {run} is damaged or incomplete. Delete {run} to train from the start"
        )
    for folder, target in zip(folders, targets, strict=True):
        if not (target / BEST).is_file():
            write_bytes((folder / BEST).read_bytes(), target / BEST)
    result = found[0].get("val_result")
    if not isinstance(result, int | float) or not math.isfinite(result):
        raise InputError(f"{folders[0] / BEST} has no validation result, so the best model can't be chosen")
    return result


def _read_or_none(path: Path) -> Checkpoint | None:
    """Return the content of a checkpoint. Returns None if the file is missing or damaged."""
    try:
        checkpoint = load_checkpoint(path) if path.is_file() else None
        if checkpoint and "epoch" not in checkpoint:
            raise InputError(f"can't read the checkpoint {path}: it has no epoch")
        return checkpoint
    except InputError as error:
        print(f"Warning: {error}")
        return None
