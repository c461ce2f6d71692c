"""Turns the rows of a user's list of images into splits: CSV and JSON files, and metadata.csv of an `imagefolder`.

The data set Folder calls these functions. They return {split: images}. The images of a list without splits have the
key "".
"""

import os
from collections.abc import Sequence

from dassl.utils import InputError
from datasets._images import Listed
from datasets._lists import Row, file_path, read_rows

Splits = dict[str, list[Listed]]

METADATA = "metadata.csv"
#: {split: names that folders and lists may use for the split}.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_name(name: str) -> str:
    """Return the split ("train", "val" or "test") that a folder or list calls `name`. Returns "" for other names."""
    return next((split for split, names in _SPLITS.items() if name.lower() in names), "")


def from_rows(rows: Sequence[Row], path: str) -> Splits:
    """Return the images of a list's rows.

    Args:
        path: the list's file. The paths in the rows are relative to its folder.

    Raises:
        InputError: a split is unknown, an image is listed twice, or only some rows have a split.
    """
    splits: Splits = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        image, classname, split = str(row.path), str(row.classname), row.split or ""
        if split and not split_name(split):
            raise InputError(f"{path}, entry {number}: split must be train, val or test, not {split!r}")
        if image in seen:
            raise InputError(f"{path}, entry {number}: {image} is listed twice")
        seen.add(image)
        item = Listed(os.path.join(os.path.dirname(path), file_path(image)), 0, classname)
        splits.setdefault(split_name(split), []).append(item)
    if not rows or ("" in splits and len(splits) > 1):
        raise InputError(
            f"{path}: {'the list is empty' if not rows else 'some entries have a split, others have no split'}"
        )
    return splits


def from_metadata(path: str) -> Splits:
    """Return the images of the metadata.csv in a folder. A row without a split belongs to the split of its subfolder.

    For example, the image train/1.jpg belongs to the split "train".
    """
    rows = read_rows(os.path.join(path, METADATA))
    for row in rows:
        folder, _, rest = str(row.path).replace("\\", "/").partition("/")
        if rest and split_name(folder) and not row.split:
            row.split = split_name(folder)
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
