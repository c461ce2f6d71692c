"""Recognises a finished run, usually without importing torch.

When a run starts, hashes of its inputs are written to the file inputs.json in the run's folder. The inputs are the
arguments, the config files, the source files that can change the config, and the data. The hash of the data covers the
paths, sizes and modification times of the data files. The list of the data files is stored in the cache folder. Runs
with the same data files share one list.

`execute.py` calls `is_unchanged` first. If a hash differs or is missing, `execute.py` makes the full check
(`dassl.engine.run_folder.reason_to_run`), which is slow because it needs torch. If the full check finds that the run
has finished, `execute.py` calls `verify`, which compares the data and the weights and updates the hashes.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl.config import config_files
from dassl.engine.run_folder import CONFIG, RESULT, Tested, changed_files, read_result
from dassl.utils.errors import InputError
from dassl.utils.files import cache_folder, read_json, write_json, write_text
from experiments.arguments import Run
from experiments.classes import DATASETS, TRAINERS
from experiments.config import ROOT, config_of, known_text, known_value, last_epoch, locate
from experiments.fingerprint import check_unchanged, sources_of, weight_files
from experiments.fingerprint import fingerprint as fingerprint_of

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
        if changed_files(read_result(folder), folder, _tested(run)):
            return False
        now = hashes(run)
        return now is not None and stored == now | {"data_files": stored["data_files"], "data": _data_now(stored)}
    except (InputError, OSError, KeyError, TypeError):
        return False  # the full check will report the problem


def _tested(run: Run) -> Tested:
    """Return which prompts a run tests."""
    prefers_best = known_text(run, "TEST.FINAL_MODEL") == "best_val"
    if known_text(run, "TEST.EVAL_ONLY") != "True":
        return Tested(output_folder(run), None, prefers_best)
    epoch = int(known_text(run, "TEST.LOAD_EPOCH"))
    if epoch < 0 and run.trained_in:
        epoch = last_epoch(run.trained_in) or -1
    return Tested(Path(known_text(run, "TEST.MODEL_DIR")), epoch if epoch >= 0 else None, prefers_best)


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
        if not file.is_file() or _content_digest([file]) != _digest(repr([text.encode()])):
            write_text(text, file)
    except OSError as error:
        warnings.warn(
            f"can't write {file}: {error.strerror}. Set XDG_CACHE_HOME to use another cache folder", stacklevel=2
        )
        return
    write_json(found | {"data_files": digest, "data": fingerprint(paths)}, Path(cfg.OUTPUT_DIR) / FILE)


def verify(run: Run | None, cfg: CfgNode) -> None:
    """Check that the data and the weights of a finished run haven't changed. Then store the run's current hashes.

    If the data doesn't exist any more, the run stays finished, and a message is printed.

    Raises:
        InputError: the data or the weights have changed.
    """
    from dassl.data.datasets import build_dataset

    if run and _data_is_unchanged(run):
        _refresh(run)
        return
    folder = Path(cfg.OUTPUT_DIR)
    before = read_result(folder).get("fingerprint")
    if run is None and not before:
        return
    try:
        dataset = build_dataset(cfg)
        sources = sources_of(cfg, dataset)
    except Exception as error:  # a user's data set may raise any exception
        _report_unreadable(folder, error, bool(before))
        return
    if sources.images and sources.is_absent():
        _report_unreadable(folder, FileNotFoundError("the images are missing"), False)
        return
    now = fingerprint_of(sources)
    if not any(map(os.path.exists, sources.weights)):
        del now["weights"]  # the run doesn't need its weights any more
    check_unchanged(folder, before, now)
    if run:
        with contextlib.suppress(OSError):  # hashes can't be stored in a read-only folder, which isn't an error
            store(run, cfg, dataset)


def _report_unreadable(folder: Path, error: Exception, has_fingerprint: bool) -> None:
    """Print that a finished run's data can't be compared. Raise InputError if only a part of the data is missing."""
    from datasets.base import IMG_EXTENSIONS

    reason = f"its data can't be read: {' '.join(str(error).split())}"
    try:
        paths = _read_list(read_json(folder / FILE)["data_files"])
        images = [path for path in paths if path.lower().endswith(IMG_EXTENSIONS)]
    except (InputError, OSError, KeyError, TypeError):
        images = []
    if has_fingerprint and any(map(os.path.isfile, images)):
        raise InputError(
            f"{folder} is the folder of a run whose data has changed: {reason}. Restore the data, choose another "
            "--output-dir, or delete the folder"
        )
    print(f"Only the config of the run in {folder} was compared, because {reason}")


def _refresh(run: Run) -> None:
    """Update the hashes in a finished run's folder, so that the next check is quick. The data's hash isn't changed."""
    file, now = output_folder(run) / FILE, hashes(run)
    stored = read_json(file)
    if now is not None and stored != (refreshed := now | {key: stored[key] for key in ("data_files", "data")}):
        with contextlib.suppress(OSError):  # a read-only folder
            write_json(refreshed, file)


def _data_now(stored: Mapping[str, str]) -> str:
    """Return the current hash of the data files that inputs.json names. Raises InputError if their list is missing."""
    return fingerprint(_read_list(stored["data_files"]))


def _data_is_unchanged(run: Run) -> bool:
    """Return whether the data files have the sizes and times that inputs.json has stored."""
    try:
        stored = read_json(output_folder(run) / FILE)
        return bool(stored["data"] == _data_now(stored))
    except (InputError, OSError, KeyError, TypeError):
        return False


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
    del arguments["verbose"]  # it only changes what is printed
    configs = [path for name in (run.dataset, config_of(run)) if name for path in config_files(locate(name))]
    configs += [Path(run.extend_cfg)] if run.extend_cfg else []
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
    named = [cfg.DATASET.PATH, cfg.DATASET.FEWSHOT_FILE, cfg.MODEL.BACKBONE.PATH, split_file, *weight_files(cfg)]
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
