"""Quickly recognises a finished run, without importing torch.

When a run starts, hashes are stored in its folder, in inputs.json. There are hashes of the arguments, of the config
files, of the source files that can change the config, and of the data. The hash of the data covers the paths, sizes and
modification times of the data files. The list of these files is stored in the cache folder, and runs with the same
files share it.

`execute.py` calls `is_unchanged` first. If a hash differs or is missing, `execute.py` makes the full check
(`dassl.engine.run_folder.is_finished`), which is slow because it needs torch. `execute.py` calls `store` when a run
starts, and `refresh` if the full check finds that the run has finished. If the hashes or the list are missing then,
`execute.py` builds the data set once and calls `store` instead.
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
#: Source files that turn a command line into a config. All plugins, and the files in their subfolders, count as well.
_CODE = ("dassl/config/*.py", "experiments/*.py")
#: Config keys of data folders. Relative paths are made absolute before they are hashed.
_DATA_FOLDERS = ("DATASET.ROOT", "DATASET.PATH")


def is_unchanged(run: Run) -> bool:
    """Return whether the run's folder holds a result, and all stored hashes equal the current hashes.

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
    """Write the hashes of a run to its folder, and the list of its data files to the cache folder.

    Writes nothing if the trainer's or a data set's class can't be read from its source. Then the run always gets the
    full check.
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
    """Update the stored hashes after the full check found that the run has finished, so that the next call is quick.

    The full check has found that the arguments, the config files and the source code still lead to the run's config. So
    the hashes of all these are updated. The hash of the data isn't updated, because the full check doesn't compare the
    data.
    """
    file, now = output_folder(run) / FILE, hashes(run)
    stored = read_json(file)
    if now is not None and stored != stored | now:
        write_json(stored | now, file)


def has_hashes(run: Run) -> bool:
    """Return whether the run's folder stores hashes, and the cache folder still holds the list of its data files."""
    try:
        _read_list(read_json(output_folder(run) / FILE)["data_files"])
    except (InputError, OSError, KeyError, TypeError):
        return False
    return True


def hashes(run: Run) -> dict[str, str] | None:
    """Return the current hashes of a run's arguments, config files, config.yaml, trained prompts and source files.

    Returns None if the trainer's or a data set's class can't be read from its source. config.yaml is the resolved
    config in the run's folder. It is included so that a run with a damaged config.yaml gets the full check.
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
    """Return the source files of all plugins, of modules in their subfolders, and of the code that makes the config.

    The files of other trainers and data sets are included, because each plugin's `extend_cfg` and each imported module
    can change the config. Returns None if the trainer's or a data set's class can't be read from its source.
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
    """Return a hash of the contents of files. A file that is missing or can't be read is hashed as None."""
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
    """Return a hash of the sizes and modification times of files, and of the modification times of folders.

    A missing file or folder is hashed as None.
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

    These are the images, the two folders above each image, the split file, and the files and folders that the config
    names. The folders are included because a new image or class changes a folder's modification time.
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
        named.append(cfg.DATASET.ROOT)  # a task without data was skipped; its data may be added later
    return paths | {os.path.abspath(os.path.expanduser(path)) for path in named if path}


def _list_file(digest: str) -> Path:
    return cache_folder() / "data" / digest


def _read_list(digest: str) -> list[str]:
    """Return the paths of the list with the hash `digest`. Raises InputError if the cache lacks it or it is damaged."""
    with contextlib.suppress(FileNotFoundError):
        text = _list_file(digest).read_text()
        if _digest(text) == digest:
            return json.loads(text)
    raise InputError(f"the cache holds no list of data files with the hash {digest}")
