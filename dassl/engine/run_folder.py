"""A run's output folder: names of its files, the lock, and whether the run is finished.

The engine and `experiments/` call these functions. Nothing here imports torch, because a finished run must be
recognised quickly.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from yacs.config import CfgNode

from dassl.config import differences
from dassl.utils.errors import InputError

RESULT = "result.json"
CONFIG = "config.yaml"
POINTER = "checkpoint"  # file beside the checkpoints that names the newest one


def is_finished(cfg: CfgNode) -> bool:
    """Whether the output folder holds the result of exactly this config.

    Raises:
        InputError: the folder holds the result or checkpoints of another config. The message names the differing keys.
    """
    folder = Path(cfg.OUTPUT_DIR)
    finished, config = (folder / RESULT).is_file(), folder / CONFIG
    if finished or any(folder.glob(f"*/{POINTER}")):
        if not config.is_file():
            raise InputError(f"{folder} holds a run without its {CONFIG}: choose another --output-dir, or delete it")
        differing = differences(cfg, config)
        if differing:
            raise InputError(
                f"{folder} is of another run: {', '.join(differing)}. Choose another --output-dir, or delete it"
            )
    return finished


@contextlib.contextmanager
def exclusive_lock(folder: str | Path) -> Iterator[None]:
    """A context in which no other process works in a run's folder. Waits for the other process, so that a run that is
    started twice is done once."""
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process works in {folder}: waiting until it ends")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_resume(cfg: CfgNode) -> None:
    """Raise InputError if RESUME names the folder of a run with another config."""
    config = Path(cfg.RESUME) / CONFIG
    differing = differences(cfg, config) if cfg.RESUME and config.is_file() else []
    if differing:
        raise InputError(f"{cfg.RESUME} (--resume) is of another run: {', '.join(differing)}")


def own_data_name(path: str) -> str:
    """Name of a user's own data set in results: the folder's name, or the list's name without its suffix."""
    resolved = Path(path).expanduser().resolve()
    return resolved.stem if resolved.suffix in (".csv", ".json") else resolved.name


def dataset_label(cfg: CfgNode) -> str:
    """Name of the data set in results.

    This is the name of a user's own data (DATASET.PATH), the config file's name for several tasks, or the class's name.
    """
    if cfg.DATASET.PATH:
        return own_data_name(cfg.DATASET.PATH)
    return cfg.DATASET.CONFIG if cfg.DATASET.TASKS else cfg.DATASET.NAME
