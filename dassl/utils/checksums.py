"""Checksums inside of files, which reveal that a file was damaged after it was written. Doesn't import torch.

A checksum is a SHA-256. Each kind of file stores it in a place that other programs ignore:

* binary files (checkpoints, .npz and cache files): in the last 71 bytes, `sha256:<64 digits>`. In a ZIP file, which
  torch.save and NumPy write, these bytes are the archive's comment;
* JSON files: in the entry "checksum";
* text files such as config.yaml: in the last line, a comment.

Files without a checksum are accepted, because older versions of the project and other programs write no checksums.
"""

import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dassl.utils.errors import InputError

KEY = "checksum"  # entry of a JSON file that holds its checksum
_MARK = b"sha256:"
_LENGTH = len(_MARK) + 64
#: The last 22 bytes of a ZIP file without a comment. The last two bytes are the comment's length.
_END_OF_ZIP = re.compile(rb"PK\x05\x06.{16}\0\0", re.DOTALL)
_COMMENT = "# The file's checksum, which reveals damage. If you change the file, delete this line. sha256:"
_BLOCK = 2**20


class DamagedError(InputError):
    """Raised if a file was damaged after it was written, so that its checksum is wrong."""

    def __init__(self, path: str | Path):
        super().__init__(f"{path} is damaged, because its checksum is wrong")


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- binary files ----


def seal(content: io.BytesIO) -> memoryview:
    """Append the checksum to the content of a binary file, and return the whole content. Doesn't copy the content."""
    with content.getbuffer() as view:
        if _END_OF_ZIP.fullmatch(bytes(view[-22:])):
            view[-2:] = struct.pack("<H", _LENGTH)
        digest = hashlib.sha256(view).hexdigest()
    content.seek(0, io.SEEK_END)
    content.write(_MARK + digest.encode())
    return content.getbuffer()


def unseal(content: bytes, path: str | Path) -> bytes:
    """Return the content of a binary file without its checksum. Raises DamagedError if the checksum is wrong."""
    if content[-_LENGTH:].startswith(_MARK):
        body, found = content[:-_LENGTH], content[-_LENGTH + len(_MARK) :]
        if hashlib.sha256(body).hexdigest().encode() != found:
            raise DamagedError(path)
        return body
    return content


def check_sealed(path: str | Path) -> None:
    """Raise DamagedError if a binary file has a checksum that is wrong. A file without a checksum is accepted."""
    found = sealed_digest(path)
    if found is None:
        return
    digest, left = hashlib.sha256(), os.path.getsize(path) - _LENGTH
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    if digest.hexdigest() != found:
        raise DamagedError(path)


def sealed_digest(path: str | Path) -> str | None:
    """Return the checksum at the end of a binary file, without comparing it. Returns None if the file has none."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LENGTH))
        end = file.read()
    return end[len(_MARK) :].decode("ascii", "replace") if end.startswith(_MARK) and len(end) == _LENGTH else None


# ---- JSON files ----


def _json_digest(content: Mapping[str, object]) -> str:
    plain = {key: value for key, value in content.items() if key != KEY}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def with_checksum(content: Mapping[str, object]) -> dict[str, object]:
    """Return the content of a JSON file with the entry "checksum"."""
    readable = json.loads(json.dumps(content))  # as a reader sees it: tuples are lists, keys are strings
    return {**readable, KEY: _json_digest(readable)}


def check_json(content: Any, path: str | Path) -> Any:
    """Return the content of a JSON file unchanged. Raises DamagedError if its entry "checksum" is wrong."""
    if isinstance(content, dict) and KEY in content and content[KEY] != _json_digest(content):
        raise DamagedError(path)
    return content


# ---- text files ----


def with_comment(text: str) -> str:
    """Return the text of a YAML file with its checksum as a comment in the last line."""
    text = text if text.endswith("\n") else text + "\n"
    return f"{text}{_COMMENT}{hashlib.sha256(text.encode()).hexdigest()}\n"


def check_comment(text: str, path: str | Path) -> str:
    """Return the text of a YAML file unchanged.

    Raises InputError if the last line holds a checksum that is wrong.
    """
    body, mark, found = text.rpartition(_COMMENT)
    if mark and hashlib.sha256(body.encode()).hexdigest() != found.strip():
        raise InputError(
            f"{path} was damaged or changed, because its checksum is wrong. If you changed it, delete its last line"
        )
    return text
