"""File helpers under Dassl's names, and the cache folder. Nothing here imports torch.

Every module of the project reads and writes its small files through these functions. Writing is atomic: a process that
is killed while it writes leaves the old file, never half of the new one.
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
    """Make a folder and its parents. An empty name means the current folder."""
    os.makedirs(dirname or ".", exist_ok=True)


def cache_folder() -> Path:
    """Folder of files that can be made again: ~/.cache/prompt-learning, or prompt-learning in XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "prompt-learning"


def check_isfile(fpath: str | Path) -> bool:
    """Whether `fpath` is a file. Warns if it isn't."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def listdir_nohidden(path: str | Path, sort: bool = False) -> list[str]:
    """Names in a folder, without hidden ones."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_json(fpath: str | Path) -> Any:
    """Content of a JSON file. Raises InputError if the file isn't valid JSON."""
    try:
        return json.loads(Path(fpath).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{fpath} is not valid JSON: {error}") from error


def write_json(obj: object, fpath: str | Path) -> None:
    """Write `obj` as JSON, atomically. Makes the file's folder if it is missing."""
    write_text(json.dumps(obj, indent=4, separators=(",", ": ")), fpath)


def write_text(text: str, fpath: str | Path) -> None:
    """Write a text file, atomically. Makes the file's folder if it is missing."""
    with write_atomically(fpath) as unfinished:
        unfinished.write_text(text)


@contextlib.contextmanager
def write_atomically(fpath: str | Path) -> Iterator[Path]:
    """A context that gives a temporary path, which replaces `fpath` when the context ends without an error.

    Readers and other writers therefore see the old file or the new file, never a part of one. Makes the file's folder
    if it is missing.
    """
    path = Path(fpath)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
