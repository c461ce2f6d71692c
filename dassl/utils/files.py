"""File helpers with the same names as in Dassl, and the cache folder. This module doesn't import torch.

Every module of the project uses these functions to read and write small files. Writing is atomic and durable: if the
process is killed or the machine fails while a file is written, the old file remains complete. `checksums.py` detects
files that were damaged later.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dassl.utils import checksums
from dassl.utils.errors import InputError

#: Error numbers which mean that no more can be written: the disk is full, a quota or a limit is reached.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: File name extensions of images, the same as in torchvision's ImageFolder.
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
#: Names of the files that `write_atomically` leaves if the process is killed: <name>.<32 hexadecimal digits>.tmp
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.tmp$")


class DiskFullError(OSError):
    """Raised if a file can't be written because the disk is full. The message names the file and the free space."""

    def __init__(self, path: str | Path, reason: str):
        folder = next(parent for parent in Path(path).absolute().parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        super().__init__(
            f"can't write {path}: {reason} ({free / 1e6:,.1f} MB are free in {folder}). Make space, then repeat the "
            "command"
        )
        self.strerror = reason


@contextlib.contextmanager
def report_full_disk(path: str | Path) -> Iterator[None]:
    """A context manager that turns an error of a full disk into a `DiskFullError` for the file `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError(path, os.strerror(error.errno)) from error


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


def files_below(folder: str | Path) -> list[str]:
    """Return the sorted paths, relative to `folder`, of all files in it and in its subfolders, except hidden ones."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [os.path.relpath(os.path.join(parent, name), folder) for name in files if not name.startswith(".")]
    return sorted(names)


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
    """Return the content of a JSON file.

    Raises InputError if the file isn't valid JSON, or if the file contains a checksum that is wrong.
    """
    try:
        content = json.loads(Path(fpath).read_bytes())
    except (ValueError, RecursionError) as error:  # ValueError: also for numbers with more than 4,300 digits
        raise InputError(f"{fpath} is not valid JSON: {error}") from error
    return checksums.check_json(content, fpath)


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
    """Write a text file in UTF-8, atomically. Makes the file's folder if it is missing."""
    write_bytes(text.encode(), fpath)


def write_bytes(content: bytes | memoryview, fpath: str | Path, durable: bool = True) -> None:
    """Write a file, atomically. Makes the file's folder if it is missing. For `durable`, see `write_atomically`."""
    with write_atomically(fpath, durable) as unfinished:
        unfinished.write_bytes(content)


@contextlib.contextmanager
def write_atomically(fpath: str | Path, durable: bool = True) -> Iterator[Path]:
    """A context manager that yields a temporary path. The caller writes the new content of `fpath` to this path.

    When the context ends without an error, the temporary file replaces `fpath`. Other processes therefore see the
    complete old file or the complete new file. The file's folder is made if it is missing.

    Args:
        durable: wait until the disk has stored the file, so that a failure of the machine can't lose it. This takes
            milliseconds, so it is False for cache files, which are protected by checksums only.

    Raises:
        DiskFullError: the disk is full.
    """
    path = Path(fpath)
    with report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            yield unfinished
            if durable:
                _sync(unfinished)
                rename(unfinished, path)
            else:
                os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file, and wait until the disk has stored the new name. An existing file `target` is replaced."""
    os.replace(source, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Wait until the disk has stored a file's content, or the names of the files in a folder."""
    if os.name == "nt" and path.is_dir():  # Windows can't open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that a killed process has left in a folder. Subfolders aren't searched."""
    for path in folder.glob("*.tmp"):
        if _UNFINISHED.search(path.name):
            path.unlink(missing_ok=True)
