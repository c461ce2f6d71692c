"""Checks that a data set's files exist, and builds the error that names a missing file.

This module doesn't import torch. `FewShotDataset` calls `missing_data` when a data set is built. `experiments/` calls
the function earlier, so that a wrong path is reported before torch is imported. At that time, the data set's class
isn't imported either. So `experiments/` passes a substitute class, whose attributes were read from the source code.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from dassl.utils.errors import InputError


class Layout(NamedTuple):
    """The paths of a data set's files, and how to get the files. `FewShotDataset` explains the fields."""

    dataset_dir: str
    image_dir: str
    split_file: str
    needs: Sequence[str]
    by_hand: str

    @classmethod
    def of(cls, dataset: type) -> "Layout":
        """Return the layout of a data set's class, or of another class with the same attributes."""
        return cls(*(getattr(dataset, name) for name in cls._fields))


class MissingData(InputError):
    """Raised if a data set's files aren't there. `MultiTask` skips such data sets."""


def missing_data(dataset: type, root: str, folder: str) -> MissingData | None:
    """Return an error that names the first missing file of a data set, or None if no file is missing.

    Args:
        dataset: the data set's class, or a class with the attributes that `Layout` lists.
        root: the folder that holds all data sets (DATASET.ROOT).
        folder: path of this data set's folder.
    """
    layout, name = Layout.of(dataset), dataset.__name__
    wanted = [os.path.join(folder, path) for path in (layout.image_dir, *layout.needs)]
    missing = [path for path in wanted if not os.path.exists(path)]
    if not missing:
        return None
    contents = ", ".join(filter(None, (layout.image_dir and layout.image_dir + "/", layout.split_file, *layout.needs)))
    how = layout.by_hand or f"get the data set with: bash scripts/download.sh {name}"
    return MissingData(
        f"{name}: {missing[0]} doesn't exist. DATASET.ROOT (set by --root or DATA) is {root}. "
        f"Its subfolder {layout.dataset_dir}/ must contain {contents}; {how}"
    )
