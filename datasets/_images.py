"""Lists images: the files of class folders, with labels and class names. `datasets.base` passes these names on.

An image is a light `Listed` until a split or a few-shot draw has picked it. Then `as_data` makes a `Datum` of it, which
checks that its file exists. So drawing a few images of a large folder doesn't check every file.
"""

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dassl.data.datasets import Datum
from dassl.utils import InputError, listdir_nohidden

#: File name endings that count as images: those of torchvision's ImageFolder.
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class Item(Protocol):
    """An image with its label (0-based) and class name: a `Listed` or a `Datum`."""

    @property
    def impath(self) -> str: ...

    @property
    def label(self) -> int: ...

    @property
    def classname(self) -> str: ...


class Listed(NamedTuple):
    """An image that was found in a listing. Its file isn't checked yet: see `as_data`."""

    impath: str
    label: int
    classname: str


#: Train, val (None: the data set has none) and test.
Splits = tuple[Sequence[Item], Sequence[Item] | None, Sequence[Item]]


def list_images(folder: str) -> list[str]:
    """Return the paths of all images in a folder, sorted. Files of other types are skipped and logged.

    Raises:
        InputError: if the folder has no images, since a class without images can't be used.
    """
    names = listdir_nohidden(folder, sort=True)
    paths = [os.path.join(folder, name) for name in names if name.lower().endswith(IMG_EXTENSIONS)]
    if not paths:
        raise InputError(f"the class folder {folder} has no images ({', '.join(IMG_EXTENSIONS)})")
    if len(paths) < len(names):
        other = sorted({os.path.splitext(name)[1] for name in names} - set(IMG_EXTENSIONS))
        print(f"{folder}: skipped {len(names) - len(paths)} files that aren't images ({', '.join(other)})")
    return paths


def list_class_folders(
    folder: str, ignored: Container[str] = (), new_cnames: Mapping[str, str] | None = None
) -> list[Listed]:
    """Return all images in the class folders of `folder`. Labels follow the sorted folder names.

    Args:
        ignored: names of folders that aren't classes.
        new_cnames: folder name -> class name, where they differ.
    """
    names = [name for name in listdir_nohidden(folder, sort=True) if os.path.isdir(os.path.join(folder, name))]
    return [
        Listed(path, label, (new_cnames or {}).get(name, name))
        for label, name in enumerate(name for name in names if name not in ignored)
        for path in list_images(os.path.join(folder, name))
    ]


def as_data(items: Iterable[Item]) -> list[Datum]:
    """Return items as `Datum`. Items that already are `Datum` stay the same objects.

    Raises:
        InputError: if an image doesn't exist.
    """
    data = []
    for item in items:
        if not isinstance(item, Datum):
            if not os.path.isfile(item.impath):
                raise InputError(f"no such image: {item.impath} (of class {item.classname!r})")
            item = Datum(impath=item.impath, label=item.label, classname=item.classname)
        data.append(item)
    return data
