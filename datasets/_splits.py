"""Splits images into train, val and test; reads and writes split files; selects base or new classes.

Third-party data sets call most of these functions as static methods of `FewShotDataset`. Images are drawn class by
class, in the order in which the classes first appear in the list. So the same seed gives the same split.
"""

import math
import os
import random
from collections.abc import Container, Mapping, Sequence
from types import ModuleType
from typing import TypeVar

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import InputError, unknown, write_json
from datasets._images import Item, Listed, as_data, list_class_folders
from datasets._lists import file_path, read_split_file

#: A random number generator: a `random.Random`, or the module `random`, which uses Python's global generator.
Rng = random.Random | ModuleType
T = TypeVar("T")
_HIGHEST_LABEL = 1_000_000


def read_split(filepath: str, path_prefix: str) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Return the train, val and test images that a split file lists.

    The file holds {"train": [[path, label, class name], ...], "val": ..., "test": ...}.

    Args:
        path_prefix: folder that the paths in the file are relative to.

    Raises:
        InputError: if the file isn't a split file, or if a listed image doesn't exist.
    """
    print(f"Reading split from {filepath}")
    content = read_split_file(filepath)
    train, val, test = (
        [Listed(os.path.join(path_prefix, file_path(path)), label, str(name)) for path, label, name in entries]
        for entries in (content.train, content.val, content.test)
    )
    listed = [item.impath for item in [*train, *val, *test]]
    missing = [path for path in listed if not os.path.isfile(path)]
    if missing:
        raise InputError(f"{filepath}: {len(missing)} of {len(listed)} listed images are missing, such as {missing[0]}")
    return as_data(train), as_data(val), as_data(test)


def save_split(
    train: Sequence[Item], val: Sequence[Item], test: Sequence[Item], filepath: str, path_prefix: str
) -> None:
    """Write a split file that `read_split` can read. The paths in the file are relative to `path_prefix`."""
    splits = {
        name: [[os.path.relpath(item.impath, path_prefix), item.label, item.classname] for item in items]
        for name, items in (("train", train), ("val", val), ("test", test))
    }
    write_json(splits, filepath)
    print(f"Saved split to {filepath}")


def split_trainval(trainval: Sequence[Item], p_val: float = 0.2, rng: Rng = random) -> tuple[list[Item], list[Item]]:
    """Split the images at random, and return (train, val).

    Val gets a share `p_val` of the images of every class, drawn by `rng`. Train gets the rest.
    """
    train: list[Item] = []
    val: list[Item] = []
    for items in DatasetBase.split_dataset_by_label(trainval).values():
        order = list(items)
        rng.shuffle(order)
        cut = round(len(order) * p_val)
        val.extend(order[:cut])
        train.extend(order[cut:])
    return train, val


def read_and_split_data(
    image_dir: str,
    p_trn: float = 0.5,
    p_val: float = 0.2,
    ignored: Container[str] = (),
    new_cnames: Mapping[str, str] | None = None,
    rng: Rng = random,
) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Split the images in the class folders of `image_dir` at random, and return train, val and test.

    `list_class_folders` and `split_by_shares` explain the arguments.
    """
    items = list_class_folders(image_dir, ignored, new_cnames)
    return split_by_shares(items, p_trn, p_val, rng)


def split_by_shares(
    items: Sequence[Item], p_trn: float = 0.5, p_val: float = 0.2, rng: Rng = random
) -> tuple[list[Datum], list[Datum], list[Datum]]:
    """Split the images at random, and return train, val and test.

    In every class, train gets a share `p_trn` of the images, val gets a share `p_val`, and test gets the rest. `rng`
    draws the images. Train gets at least one image of every class. If no image is left for test, test gets one of the
    images for val.
    """
    train: list[Item] = []
    val: list[Item] = []
    test: list[Item] = []
    for group in DatasetBase.split_dataset_by_label(items).values():
        order = list(group)
        rng.shuffle(order)
        n_train = max(1, round(len(order) * p_trn))
        n_val = max(0, min(round(len(order) * p_val), len(order) - n_train - 1))
        train.extend(order[:n_train])
        val.extend(order[n_train : n_train + n_val])
        test.extend(order[n_train + n_val :])
    return as_data(train), as_data(val), as_data(test)


def subsample_classes(*args: Sequence[Item], subsample: str = "all") -> Sequence[Sequence[Item]]:
    """Return the lists of images with only the base classes or only the new classes. Labels are renumbered from 0.

    The base classes are the first half of the sorted labels in the first list, rounded up. The new classes are the
    rest. If `subsample` is "all", the lists are returned unchanged.

    Raises:
        InputError: if `subsample` isn't "all", "base" or "new"; or if `subsample` is "new" and there is only one class.
    """
    if subsample not in ("all", "base", "new"):
        raise unknown("choice of classes (DATASET.SUBSAMPLE_CLASSES)", subsample, ("all", "base", "new"))
    if subsample == "all":
        return args
    chosen = halves(sorted({item.label for item in args[0]}), subsample)
    relabel = {label: number for number, label in enumerate(chosen)}
    print(f"SUBSAMPLE {subsample.upper()} CLASSES!")
    return [
        as_data(Listed(item.impath, relabel[item.label], item.classname) for item in items if item.label in relabel)
        for items in args
    ]


def halves(things: Sequence[T], which: str) -> Sequence[T]:
    """Return the "base" half of a list of classes or tasks (the first half, rounded up), or the "new" half (the rest).

    Raises:
        InputError: if that half is empty.
    """
    half = math.ceil(len(things) / 2)
    chosen = things[:half] if which == "base" else things[half:]
    if not chosen:
        raise InputError(
            f"can't use only the {which} half of {len(things)} classes or tasks, because that half is empty "
            "(set by DATASET.SUBSAMPLE_CLASSES or DATASET.SUBSAMPLE_TASKS)"
        )
    return chosen


def check_classes(train: Sequence[Item], val: Sequence[Item], test: Sequence[Item]) -> None:
    """Check that every label, from 0 to the highest, has a training image and only one class name.

    The check is needed because the labels and class names of a data set are read from its training images only.

    Raises:
        InputError: if a label is negative or too high, if it has no training image, or if it has two class names.
    """
    names = {item.label: item.classname for item in train}
    used = {item.label for item in [*train, *val, *test]}
    if min(used, default=0) < 0:
        raise InputError(f"labels start at 0, but the data set has the label {min(used)}")
    if max(used, default=0) > _HIGHEST_LABEL:
        raise InputError(f"the highest label is {max(used):,}, but at most {_HIGHEST_LABEL:,} is allowed")
    missing = sorted((set(range(max(names, default=0) + 1)) | used) - set(names))
    if missing:
        labels = f"{missing[:5]}" + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")
        raise InputError(f"the classes with labels {labels} have no images for training")
    for item in [*train, *val, *test]:
        if item.classname != names[item.label]:
            raise InputError(f"label {item.label} has two class names: {names[item.label]!r} and {item.classname!r}")
