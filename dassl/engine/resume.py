"""Resumes a run from its checkpoints, even if a kill or a damaged file has left them incomplete.

`TrainerBase` and `SimpleTrainer` call these functions. Every argument `folders` is a list with the checkpoint folder of
each registered model. The checkpoints of all models must be of the same epoch.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from dassl.utils.checkpoint_files import (
    BEST,
    POINTER,
    checkpoints_to_resume,
    find_checkpoints,
    read_pointer,
    remove_old_checkpoints,
    saved_epochs,
)
from dassl.utils.errors import InputError
from dassl.utils.files import write_bytes, write_text
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
            return [(path, load_checkpoint(path)) for path in paths]
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
    loaded = [(path, load_checkpoint(path)) for path in find_checkpoints(folders, epoch, prefers_best)]
    epochs = {checkpoint["epoch"] for _, checkpoint in loaded if "epoch" in checkpoint}
    if len(epochs) > 1:
        raise InputError(
            f"the best model in {folders[0].parent} is incomplete: its parts are of the epochs {sorted(epochs)}. Repeat "
            "the training's command to resume it"
        )
    return loaded


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


def restore_best(folders: Sequence[Path], newest: Loaded, targets: Sequence[Path]) -> float:
    """Return the validation result of the best model, and complete its checkpoints. Returns -inf if there is none.

    An epoch's checkpoints are saved before they are copied to the checkpoints of the best model. If a kill has
    interrupted the copying, it is done now. If the run is resumed from another folder, the checkpoints are copied to
    the folders `targets`.

    Raises:
        InputError: the best model is lost, because its checkpoints are damaged or deleted.
    """
    result, epoch = newest[0][1].get("val_result"), newest[0][1]["epoch"]
    found = [_read_best(folder / BEST) for folder in folders]
    known = [best for best in found if best]
    values = [best["val_result"] for best in known]
    if result is None and not known:
        return -math.inf  # this trainer hasn't chosen a best model yet
    is_first = epoch == 1 and result is not None
    if is_first or (result is not None and values and result > min(values)):
        chosen, value = epoch, result  # the newest epoch is the best one
    elif known:
        chosen, value = max((best["epoch"], best["val_result"]) for best in known)
    else:
        raise _lost(folders[0])
    for folder, target, best in zip(folders, targets, found, strict=True):
        if best is None or best["epoch"] != chosen:
            source = saved_epochs(folder).get(chosen)
            if source is None:
                raise _lost(folder)
            load_checkpoint(source)  # raises InputError if it is damaged
            write_bytes(source.read_bytes(), target / BEST)
        elif not (target / BEST).is_file():
            write_bytes((folder / BEST).read_bytes(), target / BEST)
    return value


def _read_best(path: Path) -> Checkpoint | None:
    """Return the content of a best model's checkpoint. Returns None if the file is missing or damaged."""
    try:
        return load_checkpoint(path) if path.is_file() else None
    except InputError as error:
        print(f"Warning: {error}")
        return None


def _lost(folder: Path) -> InputError:
    run = folder.parent
    return InputError(f"{folder / BEST}, the best model so far, is missing or damaged. Delete {run} to train from the start")
