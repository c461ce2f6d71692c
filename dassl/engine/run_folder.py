"""File names in a run's output folder, and functions that lock the folder or check which run the folder belongs to.

The engine and `experiments/` call these functions. This module doesn't import torch, so that a finished run is detected
quickly. A run is finished if its `result.json` is undamaged, was made with the same config and the same prompts, and
names files that are still there. `experiments/finished.py` compares the data and the weights, too.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from filelock import FileLock, Timeout
from yacs.config import CfgNode

from dassl import distributed
from dassl.config import chooses_by_validation, differing
from dassl.config.merge import ConfigValue
from dassl.utils.checkpoint_files import POINTER, find_checkpoints, saved_epochs
from dassl.utils.checksums import KEY, check_sealed, file_digest, sealed_digest
from dassl.utils.errors import InputError
from dassl.utils.files import read_json

RESULT = "result.json"
CONFIG = "config.yaml"
FINGERPRINT = "fingerprint.json"  # hashes of the data and weights; `experiments/fingerprint.py` writes it

#: Keys that set what a test writes or prints. If a key is set that wasn't set before, the run must test again.
_OUTPUTS = ("TEST.PER_CLASS_RESULT", "TEST.PER_TASK_RESULT", "TEST.COMPUTE_CMAT", "TEST.SAVE_PREDICTIONS")
#: Keys that set what is tested and how. They change the training only if it depends on validations.
_TESTED = ("TEST.SPLIT", "TEST.EVALUATOR", "TEST.NO_TEST", "DATALOADER.TEST.SAMPLER", "DATALOADER.TEST.BATCH_SIZE")

#: {name of a file, relative to a folder: its checksum}
Files = dict[str, str]


def reason_to_run(cfg: CfgNode) -> str | None:
    """Return None if the output folder contains the result of a run with this config.

    Otherwise, return why the run must be executed or resumed. "" means that it hasn't been finished before.

    Raises:
        InputError: the folder contains the result or checkpoints of a run, but no config.yaml; or its config.yaml
            differs from `cfg` in what is trained. The message names the keys that differ.
    """
    folder = Path(cfg.OUTPUT_DIR)
    retest = _check_config(cfg, folder) if contains_run(folder, cfg.TEST.EVAL_ONLY) else ""
    if not (folder / RESULT).is_file():
        return ""
    try:
        result = read_result(folder)
    except InputError as error:
        return str(error)
    return retest or changed_files(result, folder, Tested.of(cfg)) or None


def contains_run(folder: Path, only_tests: bool) -> bool:
    """Return whether a folder contains a result or checkpoints of a run.

    If `only_tests` is True, checkpoints without a pointer aren't counted. They may be downloaded prompts to test.
    """
    if (folder / RESULT).is_file() or any(folder.glob(f"*/{POINTER}")):
        return True
    return not only_tests and any(saved_epochs(part) for part in folder.glob("*") if part.is_dir())


def _check_config(cfg: CfgNode, folder: Path) -> str:
    """Return why the run in `folder` must test again, if its config differs from `cfg` only in the test. Else, "".

    Raises InputError if the configs differ in what is trained.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder} contains a run without its {CONFIG}. Choose another --output-dir, or delete the folder"
        )
    found = differing(cfg, folder / CONFIG)
    if refused := _refused(found, cfg):
        advice = (
            "Give this data set a name with DATASET.LABEL" if "DATASET.PATH" in found else "Choose another --output-dir"
        )
        raise InputError(
            f"{folder} is the folder of another run, whose config differs in {refused}. {advice}, or delete the folder"
        )
    changed = [key for key, (_, now) in found.items() if key not in _OUTPUTS or now]
    return f"{', '.join(changed)} changed since the last test" if changed else ""


def _refused(found: Mapping[str, tuple[ConfigValue, ConfigValue]], cfg: CfgNode) -> str:
    """Return a text that names the differing keys, except those that only change the test."""
    tests_only = (*_OUTPUTS, *(() if chooses_by_validation(cfg) else _TESTED))
    trained = {key: values for key, values in found.items() if key not in tests_only}
    return ", ".join(f"{key} ({before!r} in the file, {now!r} now)" for key, (before, now) in trained.items())


def check_resume(cfg: CfgNode) -> None:
    """Raise InputError if RESUME names the folder of a run with another config."""
    config = Path(cfg.RESUME) / CONFIG
    refused = _refused(differing(cfg, config), cfg) if cfg.RESUME and config.is_file() else ""
    if refused:
        raise InputError(f"{cfg.RESUME} (--resume) is the folder of another run, whose config differs in {refused}")


# ---- the files of a finished run ----


class Tested(NamedTuple):
    """Which prompts a run tests: its own, or those of the training whose folder is TEST.MODEL_DIR."""

    folder: Path
    epoch: int | None  # None: the last or the best epoch
    prefers_best: bool

    @classmethod
    def of(cls, cfg: CfgNode) -> "Tested":
        """Return which prompts the run with this config tests."""
        best = cfg.TEST.FINAL_MODEL == "best_val"
        if not cfg.TEST.EVAL_ONLY:
            return cls(Path(cfg.OUTPUT_DIR), None, best)
        return cls(Path(cfg.TEST.MODEL_DIR), cfg.TEST.LOAD_EPOCH if cfg.TEST.LOAD_EPOCH >= 0 else None, best)

    def paths(self, models: Iterable[str]) -> list[Path]:
        """Return the checkpoints' paths, or [] if a checkpoint is missing or if a trainer names them otherwise."""
        try:
            return find_checkpoints([self.folder / name for name in models], self.epoch, self.prefers_best)
        except FileNotFoundError:
            return []


def digests(paths: Iterable[Path], folder: Path, trusted_until: int = 0) -> Files:
    """Return {path relative to `folder`: checksum} of files. Missing and damaged files are left out.

    Args:
        trusted_until: time in ns. If a file has a checksum inside and hasn't changed since this time, the checksum is
            believed. Otherwise, the whole file is read.
    """
    found = {}
    for path in paths:
        try:
            digest = sealed_digest(path)
            if digest is None:
                digest = file_digest(path)
            elif max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) > trusted_until:
                check_sealed(path)
        except (OSError, InputError):
            continue
        found[os.path.relpath(path, folder)] = digest
    return found


def read_result(folder: Path) -> dict[str, Any]:
    """Return the content of a run's result.json. Raises InputError if it isn't a result, or if it is damaged."""
    result = read_json(folder / RESULT)
    if not isinstance(result, dict):
        raise InputError(f"{folder / RESULT} is damaged, because it isn't a result")
    return result


class _Files(msgspec.Struct):
    """The entries of result.json that name files. Older versions of the project didn't write them."""

    files: Files = {}  # files in the run's folder that belong to the result
    prompts: Files = {}  # tested checkpoints, relative to the folder of their training


def changed_files(result: Mapping[str, Any], folder: Path, tested: Tested) -> str:
    """Return a text that names a file of a finished run that is missing or has changed since. Returns "" if none has.

    The result of a test names the checksums of the prompts that it has tested. Results of older versions name no files.
    """
    written = (folder / RESULT).stat().st_mtime_ns
    try:
        named = msgspec.convert(result, _Files)
    except msgspec.ValidationError:
        return f"{folder / RESULT} is damaged"
    now = digests((folder / name for name in named.files), folder, written)
    for name, digest in named.files.items():
        if now.get(name) != digest:
            return f"{folder / name} is missing or has changed"
    if named.prompts:
        paths = tested.paths(sorted({os.path.dirname(name) for name in named.prompts}))
        if digests(paths, tested.folder, written) != named.prompts:
            return f"the trained prompts in {tested.folder} are missing or have changed"
    return ""


def read_fingerprint(folder: Path) -> dict[str, str] | None:
    """Return the fingerprint of the data and weights with which the run in `folder` was started.

    Returns None if the run has stored no fingerprint. Raises InputError if the file is damaged.
    """
    if not (folder / FINGERPRINT).is_file():
        return None
    content = read_json(folder / FINGERPRINT)
    if not isinstance(content, dict):
        raise InputError(f"{folder / FINGERPRINT} is damaged")
    return {key: str(value) for key, value in content.items() if key != KEY}


# ---- the lock ----


@contextlib.contextmanager
def exclusive_lock(folder: str | Path) -> Iterator[None]:
    """A context manager that locks a run's folder, so that no other run works in it.

    If another process has locked the folder, wait until that process ends. A run that is started twice is therefore
    executed only once, because the second process finds the run finished.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    if not distributed.on_main(lambda: _acquire(lock, 0)):
        print(f"Another process is working in {folder}. Waiting until it ends")
        while not distributed.on_main(lambda: _acquire(lock, 10)):  # the run's other processes don't wait for hours
            pass
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, seconds: float) -> bool:
    """Try to lock a folder for a number of seconds. Return whether it is locked for this process."""
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


# ---- names of data ----


def own_data_name(path: str, label: str) -> str:
    """Return the name that results use for a user's own data set.

    It is `label` (DATASET.LABEL) if there is one. Otherwise, it is the name of the folder `path`, or of the list `path`
    (.csv or .json) without its suffix.
    """
    if label:
        return label
    resolved = Path(os.path.expanduser(path)).resolve()
    return resolved.stem if resolved.suffix in (".csv", ".json") else resolved.name


def dataset_label(cfg: CfgNode) -> str:
    """Return the name that results use for the data set.

    If DATASET.PATH is set, return the name of the user's own data set (`own_data_name`). The config of an older run has
    no DATASET.LABEL. If the data set has several
    tasks, return the name of its config file. Otherwise, return the name of the data set's class.
    """
    if cfg.DATASET.PATH:
        return own_data_name(cfg.DATASET.PATH, cfg.DATASET.get("LABEL", ""))
    return cfg.DATASET.CONFIG if cfg.DATASET.TASKS else cfg.DATASET.NAME
