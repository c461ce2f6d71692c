"""Lists the images in class folders, with their labels and class names.

Data sets import all names of this file from `datasets.base`. An image is first stored as a `Listed`, without checking
that its file exists. After a split or a few-shot draw has selected the image, `as_data` checks the file and turns the
`Listed` into a `Datum`. So a few-shot draw from a large folder checks only the files of the selected images.
"""

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from dassl.data.datasets import Datum
from dassl.utils import InputError, listdir_nohidden
from dassl.utils.files import IMG_EXTENSIONS as IMG_EXTENSIONS
from dassl.utils.files import files_below
from dassl.utils.typed import check_plain
from datasets._lists import class_name


class Item(Protocol):
    """An image with its label (from 0) and its class name. An item is a `Listed` or a `Datum`."""

    @property
    def impath(self) -> str: ...

    @property
    def label(self) -> int: ...

    @property
    def classname(self) -> str: ...


class Listed(NamedTuple):
    """An image that was found in a folder or a list. `as_data` checks later that the image's file exists."""

    impath: str
    label: int
    classname: str


#: The train, val and test images, in this order. The val images are None if the data set has no val split.
Splits = tuple[Sequence[Item], Sequence[Item] | None, Sequence[Item]]


def list_images(folder: str, nested: bool = False) -> list[str]:
    """Return the sorted paths of all images in a folder. Files of other types are skipped, and their number is logged.

    Args:
        nested: also search all subfolders, except hidden ones.

    Raises:
        InputError: if the folder has no images, because every class needs images.
    """
    names = files_below(folder) if nested else listdir_nohidden(folder, sort=True)
    paths = [os.path.join(folder, name) for name in names if name.lower().endswith(IMG_EXTENSIONS)]
    check_plain(names, f"a file name in {folder}")
    if not paths:
        raise InputError(f"the class folder {folder} has no images. Known extensions: {', '.join(IMG_EXTENSIONS)}")
    if len(paths) < len(names):
        other = sorted({os.path.splitext(name)[1] for name in names} - set(IMG_EXTENSIONS))
        print(f"{folder}: skipped {len(names) - len(paths)} files that aren't images ({', '.join(other)})")
    return paths


def list_class_folders(
    folder: str,
    ignored: Container[str] = (),
    new_cnames: Mapping[str, str] | None = None,
    nested: bool = False,
) -> list[Listed]:
    """Return all images in the class folders of `folder`. Labels start at 0 and follow the sorted folder names.

    Args:
        ignored: names of subfolders that are skipped, because they aren't classes.
        new_cnames: {folder name: class name} for classes whose name isn't the folder name.
        nested: class folders may have subfolders, whose images belong to the class.
    """
    names = [name for name in listdir_nohidden(folder, sort=True) if os.path.isdir(os.path.join(folder, name))]
    return [
        Listed(path, label, classname)
        for label, name in enumerate(name for name in names if name not in ignored)
        for classname in [(new_cnames or {}).get(name) or class_name(os.path.join(folder, name))]
        for path in list_images(os.path.join(folder, name), nested)
    ]


def as_data(items: Iterable[Item]) -> list[Datum]:
    """Return the items as `Datum` objects. Items that already are `Datum` objects aren't copied.

    Raises:
        InputError: if an image file doesn't exist.
    """
    data = []
    for item in items:
        if not isinstance(item, Datum):
            if not os.path.isfile(item.impath):
                raise InputError(f"no such image: {item.impath} (class {item.classname!r})")
            item = Datum(impath=item.impath, label=item.label, classname=item.classname)
        data.append(item)
    return data
