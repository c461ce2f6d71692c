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

from dassl.utils import InputError
from dassl.utils.typed import check_plain, one_place, read_json_as, shown
from dassl.utils.unpickle import Malformed, read_pickle

Label = Annotated[int, Meta(ge=0, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1)]
#: A class name may be a number in JSON.
Name = Text | int | float

#: {column of a list of images: names that a list may use for the column, in lower case}
COLUMNS = {
    "path": ("path", "filename", "file_name", "file", "image"),
    "class": ("class", "label", "class_name", "classname"),
    "split": ("split",),
}


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
            entries = read_pickle(path).get(split, [])
            paths = [entry[0] if isinstance(entry, list) and entry else None for entry in entries]
        except Malformed as error:
            raise InputError(f"can't read few-shot images from {path}: {error}") from error
    texts = [text for text in paths if isinstance(text, str)]
    if len(texts) < len(paths):
        raise InputError(f"{path}: an entry of {split} doesn't start with the path of an image")
    check_plain(texts, f"{path}: a path")
    return texts


def read_rows(path: str) -> list[Row]:
    """Return the rows of a CSV file, or of a JSON file that holds a list of {"path": ..., "class": ..., "split": ...}.

    The columns may have other names (`COLUMNS`).

    Raises:
        InputError: the file has another form. The message names the entry.
    """
    entries = _read_csv(path) if path.endswith(".csv") else read_json_as(path, list, "list of images")
    rows = []
    for number, entry in enumerate(entries, 1):
        try:
            row = msgspec.convert(_with_our_columns(entry), Row)
        except msgspec.ValidationError as error:
            raise InputError(f"{path}, entry {number}: {one_place(error)}: {shown(entry)}") from error
        if row.path in (None, "") or row.classname in (None, ""):
            raise InputError(
                f"{path}, entry {number}: path or class is missing: {shown(entry)}. Columns for them may be called "
                f"{', '.join(COLUMNS['path'])}; and {', '.join(COLUMNS['class'])}"
            )
        check_plain([row.path, row.classname], f"{path}, entry {number}")
        rows.append(row)
    return rows


def _with_our_columns(entry: object) -> object:
    """Rename the keys of a row to those of `Row`. The first name in COLUMNS that has a value counts."""
    if not isinstance(entry, dict):
        return entry
    renamed: dict[str, object] = {}
    for column, names in COLUMNS.items():
        values = [entry[name] for name in names if entry.get(name) not in (None, "")]
        renamed |= {column: values[0]} if values else {}
    return renamed


def _read_csv(path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file as {column name in lower case: value}.

    The columns are separated by commas, by semicolons (as some versions of Excel do) or by tabs. A byte order mark at
    the start is skipped.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter=max(",;\t", key=header.count))
            columns = [name.strip().lower() for name in next(reader, [])]
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} isn't a CSV file in UTF-8: {error}. In Excel, save it as CSV UTF-8") from error
    for name in {name for names in COLUMNS.values() for name in names}:
        if columns.count(name) > 1:
            raise InputError(f"{path} has several columns named {name}")
    for number, row in enumerate(rows, 1):
        if len(row) > len(columns):
            raise InputError(f"{path}, entry {number}: {len(row)} values, but there are {len(columns)} columns")
    return [dict(zip(columns, row, strict=False)) for row in rows]
