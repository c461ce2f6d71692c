"""File helpers with the same names as in Dassl, and the cache folder. This module doesn't import torch.

Every module of the project uses these functions to read and write small files. Writing is atomic: if a process is
killed while it writes, the old file remains complete.
"""

import contextlib
import json
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dassl.utils.errors import InputError


def mkdir_if_missing(dirname: str | Path) -> None:
    """Make a folder and its parent folders if they are missing. "" means the current folder."""
    os.makedirs(dirname or ".", exist_ok=True)


def cache_folder() -> Path:
    """Return the folder for cached files.

    This is the folder `prompt-learning` in the folder XDG_CACHE_HOME, or in ~/.cache if XDG_CACHE_HOME isn't set.
    """
    folder = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if folder.startswith("~"):  # there is neither HOME nor an account
        raise InputError("there is no home folder for cached files. Set XDG_CACHE_HOME to a folder")
    return Path(folder).absolute() / "prompt-learning"


def check_isfile(fpath: str | Path) -> bool:
    """Return whether `fpath` is a file. Warn if it isn't."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def listdir_nohidden(path: str | Path, sort: bool = False) -> list[str]:
    """Return the names of the files and folders in `path`, except hidden ones, which start with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_text(fpath: str | Path) -> str:
    """Return the content of a text file. Raises InputError if the file isn't UTF-8."""
    try:
        return Path(fpath).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{fpath} isn't text in UTF-8: {error}") from error


def read_json(fpath: str | Path) -> Any:
    """Return the content of a JSON file. Raises InputError if the file isn't valid JSON."""
    try:
        return json.loads(Path(fpath).read_bytes())
    except (ValueError, RecursionError) as error:  # ValueError: also for numbers with more than 4,300 digits
        raise InputError(f"{fpath} is not valid JSON: {error}") from error


def write_json(obj: object, fpath: str | Path) -> None:
    """Write `obj` as JSON, atomically. Makes the file's folder if it is missing.

    Raises:
        FloatingPointError: a number is infinite or NaN. JSON has no such numbers.
    """
    try:
        text = json.dumps(obj, indent=4, separators=(",", ": "), allow_nan=False)
    except ValueError as error:
        raise FloatingPointError(f"can't write {fpath}, because a number is infinite or NaN") from error
    write_text(text, fpath)


def write_text(text: str, fpath: str | Path) -> None:
    """Write a text file, atomically. Makes the file's folder if it is missing."""
    with write_atomically(fpath) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def write_atomically(fpath: str | Path) -> Iterator[Path]:
    """A context manager that yields a temporary path. The caller writes the new content of `fpath` to this path.

    When the context ends without an error, the temporary file replaces `fpath`. Other processes therefore see the
    complete old file or the complete new file. The file's folder is made if it is missing.
    """
    path = Path(fpath)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def saved_epochs(folder: Path) -> dict[int, Path]:
    """Return {epoch: path} for the checkpoints model.pth.tar-<epoch> in a model's folder. Epochs count from 1."""
    names = {path: path.name.rpartition("-")[2] for path in folder.glob("model.pth.tar-*")}
    return {int(number): path for path, number in names.items() if number.isdigit()}
