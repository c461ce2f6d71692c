"""Finds the checkpoint files of a run. Doesn't import torch and doesn't read the checkpoints' content.

A run's folder has one subfolder for each registered model. It holds `model.pth.tar-<epoch>`, and `model-best.pth.tar`
if TEST.FINAL_MODEL is best_val. A pointer file names the newest checkpoint. The pointer is written after the
checkpoint, so an epoch is saved completely if the pointers of all models have reached it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dassl.utils.files import remove_unfinished

POINTER = "checkpoint"  # file in each checkpoint folder; it contains the name of the newest checkpoint
BEST = "model-best.pth.tar"  # name of the checkpoint of the best model
NEXT_BEST = f"{BEST}.next"  # checkpoint that will replace the best model when all models are saved
EPOCH = "model.pth.tar-"  # start of the name of an epoch's checkpoint; the epoch follows, counted from 1


def saved_epochs(folder: Path) -> dict[int, Path]:
    """Return {epoch: path} for the checkpoints model.pth.tar-<epoch> in a model's folder. Epochs count from 1."""
    numbers = {path: path.name.removeprefix(EPOCH) for path in folder.glob(f"{EPOCH}*")}
    return {int(number): path for path, number in numbers.items() if number.isdigit()}


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


def find_checkpoints(folders: Sequence[Path], epoch: int | None = None, prefers_best: bool = False) -> list[Path]:
    """Return one checkpoint for each of the folders of a run's models, as `find_checkpoint` does.

    If the last checkpoints are wanted, they are those of the last epoch that all folders have. A killed training may
    have saved only some of its models at a later epoch.

    Raises FileNotFoundError if a checkpoint doesn't exist.
    """
    found = [find_checkpoint(folder, epoch, prefers_best) for folder in folders]
    if epoch is None and all(path.name != BEST for path in found):
        common = set.intersection(*(set(saved_epochs(folder)) for folder in folders)) if folders else set()
        if common:
            return [find_checkpoint(folder, max(common)) for folder in folders]
    return found


def read_pointer(folder: Path) -> str | None:
    """Return the name that a model's pointer file contains.

    Returns None if the pointer file is missing or damaged, or if the checkpoint that it names doesn't exist.
    """
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if name and "/" not in name and "\0" not in name and (folder / name).is_file() else None


def checkpoints_to_resume(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the checkpoints from which a run may resume, the newest first. Each list has a path for every folder.

    Checkpoints that are newer than the pointers are left out, because the epoch wasn't saved completely. If a pointer
    is missing or damaged, print a warning and ignore it. Yields nothing if a folder has no checkpoint.
    """
    saved = [saved_epochs(folder) for folder in folders]
    pointers = [read_pointer(folder) for folder in folders]
    numbers = [name.removeprefix(EPOCH) for name in pointers if name is not None]
    for folder, pointer in zip(folders, pointers, strict=True):
        if pointer is None and any((*saved_epochs(folder), (folder / POINTER).is_file())):
            print(f"Warning: {folder / POINTER}, which names the newest checkpoint, is missing or damaged")
    if numbers and not any(number.isdigit() for number in numbers):  # a trainer has chosen other names
        yield [folder / str(pointer) for folder, pointer in zip(folders, pointers, strict=True) if pointer]
        return
    last = min((int(number) for number in numbers if number.isdigit()), default=None)
    common = set.intersection(*map(set, saved)) if saved else set()
    for epoch in sorted(common, reverse=True):
        if last is None or epoch <= last:
            yield [files[epoch] for files in saved]


def remove_old_checkpoints(folder: Path, last: int, freq: int) -> None:
    """Delete the checkpoints that a model's folder needn't keep, and what a killed process has left there.

    The checkpoints of epoch `last` and of the epoch before are kept. If `freq` (TRAIN.CHECKPOINT_FREQ) is positive,
    the checkpoints of epochs that are multiples of it are kept too. Later checkpoints are deleted, because a resumed
    run saves them again.
    """
    remove_unfinished(folder)
    (folder / NEXT_BEST).unlink(missing_ok=True)
    for epoch, path in saved_epochs(folder).items():
        is_kept = epoch in (last, last - 1) or (freq > 0 and epoch < last and epoch % freq == 0)
        if not is_kept:
            path.unlink(missing_ok=True)
