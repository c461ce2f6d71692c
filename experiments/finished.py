"""Quickly recognises a finished run, without importing torch.

When a run starts, hashes of its inputs are written to the file inputs.json in the run's folder. The inputs are the
arguments, the config files, the source files that can change the config, and the data. The hash of the data covers the
paths, sizes and modification times of the data files. The list of the data files is stored in the cache folder. Runs
with the same data files share one list.

`execute.py` calls `is_unchanged` first. If a hash differs or is missing, `execute.py` makes the full check
(`dassl.engine.run_folder.is_finished`), which is slow because it needs torch. If the full check finds that the run has
finished, `execute.py` calls `refresh` to update the hashes. But if the hashes or the list of data files are missing,
`execute.py` builds the data set and calls `store`. Whenever a run starts, `execute.py` calls `store` too.
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

#: Name of the file in a run's folder that stores the hashes, as {name: hash}.
FILE = "inputs.json"
#: Patterns of the source files that turn a command line into a config. In addition, the plugins' files are hashed.
_CODE = ("dassl/config/*.py", "experiments/*.py")
#: Config keys whose values are data folders. Relative paths are made absolute before they are hashed.
_DATA_FOLDERS = ("DATASET.ROOT", "DATASET.PATH")


def is_unchanged(run: Run) -> bool:
    """Return True if the run's folder holds a result, and if all stored hashes equal the current hashes.

    Doesn't import torch.
    """
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
        return False  # the full check will report the problem


def output_folder(run: Run) -> Path:
    """Return the run's output folder."""
    return Path(run.options.get("OUTPUT_DIR") or run.output_dir or known_text(run, "OUTPUT_DIR"))


def store(run: Run, cfg: CfgNode, dataset: "DatasetBase") -> None:
    """Write a run's hashes to the run's folder, and write the list of the run's data files to the cache folder.

    Writes nothing if the trainer's class or a data set's class can't be read from its source file. In this case, every
    later call makes the full check of the run.
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
        warnings.warn(
            f"can't write {file}: {error.strerror}. Set XDG_CACHE_HOME to use another cache folder", stacklevel=2
        )
        return
    write_json(found | {"data_files": digest, "data": fingerprint(paths)}, Path(cfg.OUTPUT_DIR) / FILE)


def refresh(run: Run) -> None:
    """Update the hashes that are stored in a finished run's folder, so that the next check of the run is quick.

    Call this only if the full check has found that the arguments, the config files and the source code still lead to
    the run's config. The hash of the data isn't updated, because the full check doesn't compare the data.
    """
    file, now = output_folder(run) / FILE, hashes(run)
    stored = read_json(file)
    if now is not None and stored != stored | now:
        write_json(stored | now, file)


def has_hashes(run: Run) -> bool:
    """Return True if the run's folder holds hashes, and if the cache folder holds the list of the run's data files."""
    try:
        _read_list(read_json(output_folder(run) / FILE)["data_files"])
    except (InputError, OSError, KeyError, TypeError):
        return False
    return True


def hashes(run: Run) -> dict[str, str] | None:
    """Return the current hashes of a run's inputs, except the data, as {name of the input: hash}.

    The inputs are the arguments, the config files, the source files, and the config and result of the training whose
    prompts are tested. config.yaml in the run's folder is hashed too, so that a damaged config.yaml leads to the full
    check. Returns None if the trainer's class or a data set's class can't be read from its source file.
    """
    sources = _sources(run)
    if sources is None:
        return None
    arguments = dataclasses.asdict(run) | {
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
    """Return all source files of the trainers and data sets, and of the code that builds the config.

    Trainers and data sets that the run doesn't use are included, because every plugin's `extend_cfg` and every imported
    module can change the config. Returns None if the class of the run's trainer, or of a data set of the run, can't be
    read from its source file.
    """
    names = [known_text(run, "DATASET.NAME")]
    tasks = known_value(run, "DATASET.TASKS")
    names += [task[0] for task in tasks] if isinstance(tasks, list) else []
    if None in [TRAINERS.outline(run.trainer), *(DATASETS.outline(name) for name in names)]:
        return None
    plugins = [path for kind in (TRAINERS, DATASETS) for path in kind.folder.rglob("*.py")]
    code = [path for pattern in _CODE for path in ROOT.glob(pattern)]
    return sorted(path for path in [*plugins, *code] if not path.name.startswith("."))


def _content_digest(paths: Iterable[Path]) -> str:
    """Return one hash of the contents of all given files. A missing or unreadable file counts as None."""
    return _digest(repr([_content(path) for path in paths]))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# ---- the data ----


def fingerprint(paths: Iterable[str]) -> str:
    """Return one hash of the states of all given files and folders.

    The state of a file is its size and modification time. The state of a folder is only its modification time. The
    state of a missing file or folder is None.
    """
    return _digest(repr([_state(path) for path in paths]))


def _state(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    is_folder = about.st_mode & 0o170000 == 0o040000
    return 0 if is_folder else about.st_size, about.st_mtime_ns


def _paths(cfg: CfgNode, dataset: "DatasetBase") -> set[str]:
    """Return the absolute paths of all files and folders that the run's data depends on.

    These are the images, the two innermost folders that contain each image, the split file, and the files and folders
    that the config names. Folders are included because a new image or class changes a folder's modification time.
    """
    images = [
        item.impath for items in (dataset.train_x, dataset.train_u, dataset.val, dataset.test) for item in items or []
    ]
    paths = {os.path.abspath(path) for path in images}
    folders = {os.path.dirname(path) for path in paths}
    paths |= folders | {os.path.dirname(folder) for folder in folders}
    split_file = getattr(dataset, "split_path", "")  # third-party data sets may lack this attribute
    named = [cfg.DATASET.PATH, cfg.DATASET.FEWSHOT_FILE, cfg.MODEL.BACKBONE.PATH, cfg.MODEL.INIT_WEIGHTS, split_file]
    if cfg.DATASET.TASKS:
        named.append(cfg.DATASET.ROOT)  # a task without data is skipped, but the user may add its data later
    return paths | {os.path.abspath(os.path.expanduser(path)) for path in named if path}


def _list_file(digest: str) -> Path:
    return cache_folder() / "data" / digest


def _read_list(digest: str) -> list[str]:
    """Return the paths in the list of data files whose hash is `digest`.

    Raises InputError if the list isn't in the cache folder, or if the list is damaged.
    """
    with contextlib.suppress(FileNotFoundError):
        text = _list_file(digest).read_text(encoding="utf-8")
        if _digest(text) == digest:
            return json.loads(text)
    raise InputError(f"the cache holds no list of data files with the hash {digest}")
