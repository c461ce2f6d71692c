"""Reads lists of a user's own images: CSV and JSON files, and the metadata.csv of a Hugging Face `imagefolder`.

The data set Folder calls these functions. They return {split: images}. The images of a list without splits have the
key "".
"""

import csv
import os
from collections.abc import Sequence

from dassl.utils import InputError
from datasets._images import Listed

#: An image of a CSV or JSON list, as {column name: value}. The values aren't checked yet.
Row = dict[str, object]
Splits = dict[str, list[Listed]]

METADATA = "metadata.csv"
#: {column: names that a list may use for the column, in lower case}
_COLUMNS = {
    "path": ("path", "filename", "file_name", "file", "image"),
    "class": ("class", "label", "class_name", "classname"),
    "split": ("split",),
}
#: {split: names that folders and lists may use for the split}.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_name(name: str) -> str:
    """Return the split ("train", "val" or "test") that a folder or list calls `name`. Returns "" for other names."""
    return next((split for split, names in _SPLITS.items() if name.lower() in names), "")


def from_rows(rows: Sequence[object], path: str) -> Splits:
    """Return the images of a list's rows. Each row has a path, a class and optionally a split (`_COLUMNS`).

    Args:
        path: the list's file. The paths in the rows are relative to its folder.

    Raises:
        InputError: a row is wrong, an image is listed twice, or only some rows have a split.
    """
    splits: Splits = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        image, classname, split = (_value(row, column) for column in ("path", "class", "split"))
        if not image or not classname:
            raise InputError(
                f"{path}, entry {number}: path or class is missing: {row}. Columns for them may be called "
                f"{', '.join(_COLUMNS['path'])}; and {', '.join(_COLUMNS['class'])}"
            )
        if split and not split_name(split):
            raise InputError(f"{path}, entry {number}: split must be train, val or test, not {split!r}")
        if image in seen:
            raise InputError(f"{path}, entry {number}: {image} is listed twice")
        seen.add(image)
        item = Listed(os.path.join(os.path.dirname(path), image), 0, classname)
        splits.setdefault(split_name(split), []).append(item)
    if not rows or ("" in splits and len(splits) > 1):
        raise InputError(
            f"{path}: {'the list is empty' if not rows else 'some entries have a split, others have no split'}"
        )
    return splits


def _value(row: object, column: str) -> str:
    """Return a row's value in a column as a string. Returns "" if the row hasn't got the column."""
    if not isinstance(row, dict):
        return ""
    values = (row.get(name) for name in _COLUMNS[column])
    return next((str(value) for value in values if value not in (None, "")), "")


def read_csv(path: str) -> list[Row]:
    """Return the rows of a CSV file, with column names in lower case.

    The columns are separated by commas, by semicolons (as some versions of Excel do) or by tabs. A byte order mark at
    the start is skipped.

    Raises:
        InputError: the file isn't a CSV in UTF-8.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)
            rows = list(csv.DictReader(file, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} isn't a CSV file in UTF-8: {error}. In Excel, save it as CSV UTF-8") from error
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]


def from_metadata(path: str) -> Splits:
    """Return the images of the metadata.csv in a folder. A row without a split belongs to the split of its subfolder.

    For example, the image train/1.jpg belongs to the split "train".
    """
    rows = read_csv(os.path.join(path, METADATA))
    for row in rows:
        folder, _, rest = _value(row, "path").replace("\\", "/").partition("/")
        if rest and split_name(folder) and not _value(row, "split"):
            row["split"] = split_name(folder)
    return from_rows(rows, os.path.join(path, METADATA))


def same_labels(splits: Splits, path: str) -> Splits:
    """Return the images with new labels. A class has the same label in all splits.

    Labels start at 0 and follow the sorted class names.

    Raises:
        InputError: if a class has no training images.
    """
    names = {item.classname for items in splits.values() for item in items}
    with_training = {item.classname for item in splits.get("train", splits.get("", []))}
    if names - with_training:
        raise InputError(f"{path}: no training images for the class {sorted(names - with_training)[0]!r}")
    labels = {name: label for label, name in enumerate(sorted(names))}
    return {split: [item._replace(label=labels[item.classname]) for item in items] for split, items in splits.items()}
