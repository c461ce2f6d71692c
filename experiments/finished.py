"""Recognises a finished run without importing torch, by hashes that the run stored in its folder when it started.

`execute.py` calls `is_unchanged` first, `store` when a run starts, and `refresh` after a full check. There are hashes
of the arguments, of the config files, of the source files that make the config, and of the data: paths, sizes and
times of change of its files. The list of the data's files is in the cache folder, once for all runs that use the
same files. If a hash differs or is missing, the full check decides (`dassl.engine.run_folder.is_finished`).
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.config import config_files
from dassl.engine.run_folder import CONFIG, RESULT
from dassl.utils.errors import InputError
from dassl.utils.files import cache_folder, read_json, write_json, write_text
from experiments.arguments import Run
from experiments.classes import DATASETS, TRAINERS
from experiments.config import ROOT, config_of, known_text, known_value, last_epoch, locate

if TYPE_CHECKING:
    from dassl.data.datasets import DatasetBase

#: File in a run's folder: name of a hash -> hash.
FILE = "inputs.json"
#: Source files that decide which config a command line resolves to.
_CODE = ("dassl/config/*.py", "trainers/common/options.py", "experiments/*.py")
#: Config keys whose values may be paths relative to the current folder.
_DATA_FOLDERS = ("DATASET.ROOT", "DATASET.PATH")


def is_unchanged(run: Run) -> bool:
    """Whether the run's folder holds a result, and all hashes stored there equal those of now. Needs no torch."""
    folder = output_folder(run)
    if not all((folder / name).is_file() for name in (FILE, CONFIG, RESULT)):
        return False
    try:
        stored = read_json(folder / FILE)
        read_json(folder / RESULT)
        now = hashes(run)
        return now is not None and stored == now | {
            "data_files": stored["data_files"],
            "data": fingerprint(_read_list(stored["data_files"])),
        }
    except (InputError, OSError, KeyError, TypeError):
        return False  # the full check reports what is wrong


def output_folder(run: Run) -> Path:
    """The run's output folder."""
    return Path(run.options.get("OUTPUT_DIR") or run.output_dir or known_text(run, "OUTPUT_DIR"))


def store(run: Run, cfg: CfgNode, dataset: "DatasetBase") -> None:
    """Write the hashes of a run to its folder, and the list of its data's files to the cache folder.

    Writes nothing if a plugin's source doesn't tell its class: such a run always gets the full check.
    """
    found = hashes(run)
    if found is None:
        return
    paths = sorted(_paths(cfg, dataset))
    text = json.dumps(paths)
    digest = _digest(text)
    file = _list_file(digest)
    try:
        if not file.is_file():
            write_text(text, file)
    except OSError as error:
        warnings.warn(f"can't write {file} (XDG_CACHE_HOME names another folder): {error.strerror}", stacklevel=2)
        return
    write_json(found | {"data_files": digest, "data": fingerprint(paths)}, Path(cfg.OUTPUT_DIR) / FILE)


def refresh(run: Run) -> None:
    """Update the stored hashes of a run that the full check has found finished, so that the next call is quick.

    The same arguments may have other sources now: a newer version of the project. The hash of the data stays as it
    is, since the full check doesn't compare the data. Other arguments change nothing: they aren't the run's.
    """
    file, now = output_folder(run) / FILE, hashes(run)
    try:
        stored = read_json(file)
        if now is not None and stored["arguments"] == now["arguments"] and stored != stored | now:
            write_json(stored | now, file)
    except (InputError, KeyError, TypeError):
        file.unlink()  # a damaged file: the next full check stores the hashes again


def hashes(run: Run) -> dict[str, str] | None:
    """Hashes of a run's arguments, config files, resolved config and sources.

    None if a plugin's source doesn't tell its class. The resolved config is the run's config.yaml, so that a damaged
    folder gets the full check.
    """
    sources = _sources(run)
    if sources is None:
        return None
    arguments = dataclasses.asdict(run) | {
        "overrides": run.options,
        "load_epoch": last_epoch(run.trained_in) if run.trained_in else None,
        "folders": [os.path.abspath(os.path.expanduser(known_text(run, key))) for key in _DATA_FOLDERS],
    }
    configs = [path for name in (run.dataset, config_of(run)) if name for path in config_files(locate(name))]
    trained = known_text(run, "TEST.MODEL_DIR")
    return {
        "arguments": _digest(json.dumps(arguments, sort_keys=True, default=str)),
        "config_files": _content_digest(configs),
        "config": _content_digest([output_folder(run) / CONFIG]),
        "trained": _content_digest([Path(trained) / CONFIG, Path(trained) / RESULT] if trained else []),
        "sources": _content_digest(sources),
    }


def _sources(run: Run) -> list[Path] | None:
    """Source files of the trainer, of the data sets, and of what makes configs."""
    names = [known_text(run, "DATASET.NAME")]
    tasks = known_value(run, "DATASET.TASKS")
    names += [task[0] for task in tasks] if isinstance(tasks, list) else []
    outlines = [TRAINERS.outline(run.trainer), *(DATASETS.outline(name) for name in names)]
    found = [path for outline in outlines if outline for path in outline.files]
    if None in outlines:
        return None
    return [*found, *(path for pattern in _CODE for path in sorted(ROOT.glob(pattern)))]


def _content_digest(paths: Iterable[Path]) -> str:
    """Hash of the contents of files, and of which are missing."""
    return _digest(repr([path.read_bytes() if path.is_file() else None for path in paths]))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# ---- the data ----


def fingerprint(paths: Iterable[str]) -> str:
    """Hash of size and time of change of files, and of the time of change of folders. A missing one counts, too."""
    return _digest(repr([_state(path) for path in paths]))


def _state(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    is_folder = about.st_mode & 0o170000 == 0o040000
    return 0 if is_folder else about.st_size, about.st_mtime_ns


def _paths(cfg: CfgNode, dataset: "DatasetBase") -> set[str]:
    """Absolute paths of everything whose change may change the run's data.

    These are the images, the folders above them (a new image or class changes a folder's time), the split file, and
    the files that the config names.
    """
    images = [
        item.impath for items in (dataset.train_x, dataset.train_u, dataset.val, dataset.test) for item in items or []
    ]
    paths = {os.path.abspath(path) for path in images}
    folders = {os.path.dirname(path) for path in paths}
    paths |= folders | {os.path.dirname(folder) for folder in folders}
    split_file = getattr(dataset, "split_path", "")  # a third party's data set lacks it
    named = [cfg.DATASET.PATH, cfg.DATASET.FEWSHOT_FILE, cfg.MODEL.BACKBONE.PATH, cfg.MODEL.INIT_WEIGHTS, split_file]
    if cfg.DATASET.TASKS:
        named.append(cfg.DATASET.ROOT)  # the data of a task that was skipped may have come
    return paths | {os.path.abspath(os.path.expanduser(path)) for path in named if path}


def _list_file(digest: str) -> Path:
    return cache_folder() / "data" / digest


def _read_list(digest: str) -> list[str]:
    """The paths of a stored list. Raises InputError if the list is missing from the cache or damaged."""
    with contextlib.suppress(FileNotFoundError):
        text = _list_file(digest).read_text()
        if _digest(text) == digest:
            return json.loads(text)
    raise InputError(f"no list of data files {digest} in the cache")
