"""File names in a run's output folder, and functions that lock the folder or check which run the folder belongs to.

The engine and `experiments/` call these functions. This module doesn't import torch, so that a finished run is detected
quickly.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from yacs.config import CfgNode

from dassl.config import differences
from dassl.utils.errors import InputError

RESULT = "result.json"
CONFIG = "config.yaml"
POINTER = "checkpoint"  # file in each checkpoint folder; it contains the name of the newest checkpoint


def is_finished(cfg: CfgNode) -> bool:
    """Return whether the output folder contains the result of a run with this config.

    Raises:
        InputError: the folder contains the result or checkpoints of a run, but no config.yaml; or its config.yaml
            differs from `cfg`. The message names the keys that differ.
    """
    folder = Path(cfg.OUTPUT_DIR)
    finished, config = (folder / RESULT).is_file(), folder / CONFIG
    if finished or any(folder.glob(f"*/{POINTER}")):
        if not config.is_file():
            raise InputError(
                f"{folder} contains a run without its {CONFIG}. Choose another --output-dir, or delete the folder"
            )
        differing = differences(cfg, config)
        if differing:
            raise InputError(
                f"{folder} is the folder of another run, whose config differs in {', '.join(differing)}. "
                "Choose another --output-dir, or delete the folder"
            )
    return finished


@contextlib.contextmanager
def exclusive_lock(folder: str | Path) -> Iterator[None]:
    """A context manager that locks a run's folder, so that no other process works in it.

    If another process has locked the folder, wait until that process ends. A run that is started twice is therefore
    executed only once, because the second process finds the run finished.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is working in {folder}. Waiting until it ends")
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
        raise InputError(
            f"{cfg.RESUME} (--resume) is the folder of another run, whose config differs in {', '.join(differing)}"
        )


def own_data_name(path: str) -> str:
    """Return the name that results use for a user's own data set.

    If `path` is a folder, return the folder's name. If `path` is a file that lists images (.csv or .json), return the
    file's name without its suffix.
    """
    resolved = Path(os.path.expanduser(path)).resolve()
    return resolved.stem if resolved.suffix in (".csv", ".json") else resolved.name


def dataset_label(cfg: CfgNode) -> str:
    """Return the name that results use for the data set.

    If DATASET.PATH is set, return the name of the user's own data set (`own_data_name`). If the data set has several
    tasks, return the name of its config file. Otherwise, return the name of the data set's class.
    """
    if cfg.DATASET.PATH:
        return own_data_name(cfg.DATASET.PATH)
    return cfg.DATASET.CONFIG if cfg.DATASET.TASKS else cfg.DATASET.NAME
