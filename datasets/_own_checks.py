"""Describes a user's own images in the log, and warns about what makes results doubtful.

The data set Folder calls `describe` once its images are split.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence

from dassl.utils.file_hashes import file_hashes
from datasets._images import Item

_NAMED = 12  # the log names the counts of all classes up to this number of classes
_IMBALANCE = 10  # a class with this many times the images of another class is reported


def describe(train: Sequence[Item], val: Sequence[Item] | None, test: Sequence[Item], root: str) -> None:
    """Print the number of images per class. Warn about imbalance, and about test images that are training images.

    Args:
        root: the folder of the images. Warnings name paths relative to it.
    """
    counts = {name: Counter(item.classname for item in items or []) for name, items in _splits(train, val, test)}
    classes = sorted(counts["train"])
    print(f"{root}: {len(classes)} classes; images: {', '.join(f'{n.total()} {name}' for name, n in counts.items())}")
    if len(classes) <= _NAMED:
        print("Images per class for training:", ", ".join(f"{name} {counts['train'][name]}" for name in classes))
    if not classes:
        return  # the data set reports this error
    by_count = counts["train"].most_common()
    (largest, most), (smallest, fewest) = by_count[0], by_count[-1]
    if most >= _IMBALANCE * fewest:
        print(f"Warning: the classes are unbalanced. {largest} has {most} images for training, {smallest} has {fewest}")
    for name in classes:
        if not counts["test"][name]:
            print(f"Warning: {name} has no test images, so its accuracy isn't measured")
    copies = _copies(train, test, root)
    if copies:
        first, second = (os.path.relpath(path, root) for path in copies[0])
        print(
            f"Warning: {len(copies)} test images have the same content as a training image, which raises the accuracy. "
            f"For example, {first} is {'a training image, too' if first == second else f'the same as {second}'}"
        )


def _splits(
    train: Sequence[Item], val: Sequence[Item] | None, test: Sequence[Item]
) -> list[tuple[str, Sequence[Item] | None]]:
    return [("train", train), ("val", val), ("test", test)]


def _copies(train: Sequence[Item], test: Sequence[Item], root: str) -> list[tuple[str, str]]:
    """Return (path of a test image, path of a training image with the same bytes) for each such test image.

    Only files of the same size are read.
    """
    sizes = {item.impath: _size(item.impath) for items in (train, test) for item in items}
    common = {sizes[item.impath] for item in train} & {sizes[item.impath] for item in test}
    hashes = file_hashes(sorted(path for path, size in sizes.items() if size in common), root)
    by_hash: dict[str, list[str]] = defaultdict(list)
    for item in train:
        if found := hashes.get(item.impath):
            by_hash[found].append(item.impath)
    copies = []
    for image in dict.fromkeys(item.impath for item in test):
        same = by_hash.get(hashes.get(image, ""), ())
        copies += [(image, same[0])] if same else []
    return copies


def _size(path: str) -> int:
    """Return the size of a file in bytes. A missing file, which is reported elsewhere, has the size -1."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
