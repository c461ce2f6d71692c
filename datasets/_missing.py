"""Which files of a data set are missing, and the error that says so. Needs no torch.

`FewShotDataset` calls `missing_data` when it is built. `experiments/` calls it earlier, with a class whose attributes
were read from its source, so that a wrong path is reported before torch is imported.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from dassl.utils.errors import InputError


class Layout(NamedTuple):
    """Where the files of a data set are: class attributes of `FewShotDataset`, which explains them."""

    dataset_dir: str
    image_dir: str
    split_file: str
    needs: Sequence[str]
    by_hand: str

    @classmethod
    def of(cls, dataset: type) -> "Layout":
        """The layout of a data set's class, or of a class with the same attributes."""
        return cls(*(getattr(dataset, name) for name in cls._fields))


def missing_data(dataset: type, root: str, folder: str) -> InputError | None:
    """The error for missing files of a data set, or None if all files are there.

    Args:
        dataset: its class, or a class with the attributes of `Layout`.
        root: the folder of all data sets.
        folder: the data set's folder.
    """
    layout, name = Layout.of(dataset), dataset.__name__
    wanted = [os.path.join(folder, path) for path in (layout.image_dir, *layout.needs)]
    missing = [path for path in wanted if not os.path.exists(path)]
    if not missing:
        return None
    contents = ", ".join(filter(None, (layout.image_dir and layout.image_dir + "/", layout.split_file, *layout.needs)))
    how = layout.by_hand or f"get it with: bash scripts/download.sh {name}"
    return InputError(
        f"{name}: no {missing[0]}. DATASET.ROOT (--root, DATA) is {root}; "
        f"{layout.dataset_dir}/ below it must hold {contents}; {how}"
    )
