"""SHA-256 of data files. Hashes are stored in the cache folder, so that an unchanged file is read only once.

`experiments/fingerprint.py` calls `file_hashes` for the images and the weights of a run. A stored hash is used if the
file's size and modification time are still the same. This module doesn't import torch.
"""

import hashlib
import io
import itertools
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from dassl.utils.checksums import file_digest, seal, unseal
from dassl.utils.errors import InputError
from dassl.utils.files import cache_folder, write_bytes
from dassl.utils.tools import cpu_cores

_CHUNK = 256  # files that a thread hashes at once
#: {path: (size, modification time in ns, SHA-256)}
Known = dict[str, tuple[int, int, str]]


def file_hashes(paths: Sequence[str], name: str) -> dict[str, str]:
    """Return {path: SHA-256 of the file's content}. A missing or unreadable file gets "".

    Args:
        name: the hashes of files with the same `name` are stored together, for example the root folder of a data set.
    """
    store = cache_folder() / "hashes" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    known = _read(store)
    states = {path: _state(path) for path in paths}
    changed = [path for path, state in states.items() if state and known.get(path, ())[:2] != state]
    chunks = [changed[start : start + _CHUNK] for start in range(0, len(changed), _CHUNK)]
    with ThreadPoolExecutor(cpu_cores()) as pool:
        for path, digest in itertools.chain.from_iterable(pool.map(_hash_all, chunks)):
            size, mtime = states[path] or (0, 0)
            known[path] = (size, mtime, digest)
    if changed:
        _write(known, store)
    return {path: known[path][2] if states[path] else "" for path in paths}


def _state(path: str) -> tuple[int, int] | None:
    """Return the size and the modification time of a file. None: the file is missing."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _hash_all(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return (path, hash) of each file. The hash of an unreadable file is ""."""
    found = []
    for path in paths:
        try:
            found.append((path, file_digest(path)))
        except OSError:
            found.append((path, ""))
    return found


def _read(store: Path) -> Known:
    """Return the stored hashes. Returns {} if there are none, or if they are damaged."""
    try:
        return msgspec.json.decode(unseal(store.read_bytes(), store), type=Known)
    except (OSError, InputError, msgspec.DecodeError):
        return {}


def _write(known: Known, store: Path) -> None:
    try:
        content = msgspec.json.encode(known)
    except UnicodeEncodeError:  # in an ASCII locale, Python can't decode all names. The files are hashed in each call
        return
    try:
        write_bytes(seal(io.BytesIO(content)), store, durable=False)
    except OSError as error:
        warnings.warn(
            f"can't write {store}: {error.strerror}. Set XDG_CACHE_HOME to use another cache folder", stacklevel=3
        )
