"""Describes the files that list images, and reads them: split files, few-shot files, and CSV and JSON lists.

`_splits.py`, `_fewshot_file.py` and `folder.py` call the functions. A wrong entry becomes an `InputError` that names
the file and the entry. Paths in lists are UTF-8, whatever the locale is.
"""

import csv
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from dassl.data.datasets import Datum
from dassl.utils import InputError
from dassl.utils.typed import check_plain, one_place, read_json_as, shown
from dassl.utils.unpickle import read_pickle

Label = Annotated[int, Meta(ge=0, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1)]
#: A class name may be a number in JSON.
Name = Text | int | float


class SplitFile(Struct):
    """A published split file: the images of every split as [path, label, class name]."""

    train: list[tuple[Text, Label, Name]]
    val: list[tuple[Text, Label, Name]]
    test: list[tuple[Text, Label, Name]]


class FewShotFile(Struct):
    """A run's fewshot.json. Only the paths are used, so older files without labels can be read, too."""

    train: list[Annotated[list[object], Meta(min_length=1)]] = []
    val: list[Annotated[list[object], Meta(min_length=1)]] = []


class Row(Struct):
    """An image in a CSV or JSON list."""

    path: str | int | float | None = None
    classname: str | int | float | None = field(default=None, name="class")
    split: str | None = None


def file_path(text: str) -> str:
    """Return a path from a UTF-8 file as Python needs it to open the file. It differs only in old locales."""
    return os.fsdecode(text.encode())


def class_name(folder: str | Path) -> str:
    """Return the name of a class folder. It is read as UTF-8, whatever the locale is.

    Raises:
        InputError: the name isn't UTF-8.
    """
    name = os.path.basename(folder)
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"the name {shown(name)} in {os.path.dirname(folder)} isn't UTF-8. Rename the folder"
        ) from error


def read_split_file(path: str) -> SplitFile:
    """Return the content of a split file. Raises InputError if the file has another form."""
    return read_json_as(path, SplitFile, "split file with train, val and test")


def read_fewshot_paths(path: str, split: str) -> list[str]:
    """Return the image paths that a few-shot file lists under "train" or "val".

    The file is a run's fewshot.json, or a .pkl file of the original code, which holds a list of `Datum` per split.

    Raises:
        InputError: the file can't be read, or has another form.
    """
    if Path(path).suffix != ".pkl":
        content = read_json_as(path, FewShotFile, "list of few-shot images")
        paths: list[object] = [entry[0] for entry in (content.train if split == "train" else content.val)]
    else:
        try:
            paths = [entry.impath if isinstance(entry, Datum) else None for entry in read_pickle(path).get(split, [])]
        except OSError:
            raise
        except Exception as error:  # a broken pickle can raise almost any exception
            raise InputError(f"can't read few-shot images from {path}: {error!r}") from error
    texts = [text for text in paths if isinstance(text, str)]
    if len(texts) < len(paths):
        raise InputError(f"{path}: an entry of {split} doesn't start with the path of an image")
    check_plain(texts, f"{path}: a path")
    return texts


def read_rows(path: str) -> list[Row]:
    """Return the rows of a CSV file, or of a JSON file that holds a list of {"path": ..., "class": ..., "split": ...}.

    Raises:
        InputError: the file has another form. The message names the entry.
    """
    entries = _read_csv(path) if path.endswith(".csv") else _read_json_list(path)
    rows = []
    for number, entry in enumerate(entries, 1):
        try:
            row = msgspec.convert(entry, Row)
        except msgspec.ValidationError as error:
            raise InputError(f"{path}, entry {number}: {one_place(error)}: {shown(entry)}") from error
        if row.path in (None, "") or row.classname in (None, ""):
            raise InputError(f"{path}, entry {number}: path or class is missing: {shown(entry)}")
        check_plain([row.path, row.classname], f"{path}, entry {number}")
        rows.append(row)
    return rows


def _read_json_list(path: str) -> list[object]:
    return read_json_as(path, list, "list of images")


def _read_csv(path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file as {column name in lower case: value}."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip().lower() for name in next(reader, [])]
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} isn't a CSV file in UTF-8: {error}") from error
    for name in ("path", "class", "split"):
        if columns.count(name) > 1:
            raise InputError(f"{path} has several columns named {name}")
    for number, row in enumerate(rows, 1):
        if len(row) > len(columns):
            raise InputError(f"{path}, entry {number}: {len(row)} values, but there are {len(columns)} columns")
    return [dict(zip(columns, row, strict=False)) for row in rows]
