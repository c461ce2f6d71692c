"""A run's folder: the names of its files, who works in it, whether the run is finished. Needs no torch."""

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
    """Whether the output folder holds the result of this very config.

    Raises:
        InputError: it holds the result or checkpoints of another config; names the keys that differ.
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
    """Waits until no other process works in a run's folder: what was started twice is done once."""
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process works in {folder}: waiting until it has ended")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_resume(cfg: CfgNode) -> None:
    """Raise InputError where RESUME names the folder of a run with another config."""
    config = Path(cfg.RESUME) / CONFIG
    differing = differences(cfg, config) if cfg.RESUME and config.is_file() else []
    if differing:
        raise InputError(f"{cfg.RESUME} (--resume) is of another run: {', '.join(differing)}")


def own_name(path: str) -> str:
    """What somebody's own data is called: the folder's name, or the list's without its ending."""
    own = Path(path).expanduser().resolve()
    return own.stem if own.suffix in (".csv", ".json") else own.name


def dataset_label(cfg: CfgNode) -> str:
    """What the data set is called in results: its class's name; the folder's or file's for somebody's own data; the
    config's for several tasks."""
    if cfg.DATASET.PATH:
        return own_name(cfg.DATASET.PATH)
    return cfg.DATASET.CONFIG if cfg.DATASET.TASKS else cfg.DATASET.NAME
