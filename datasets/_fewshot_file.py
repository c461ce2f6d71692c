"""Reads the few-shot images from a file (DATASET.FEWSHOT_FILE) instead of drawing them at random.

`FewShotDataset.select` calls `pick_listed`. The file is the fewshot.json of a run, or a cache file (.pkl) of the
original code. The paths in the file are absolute and may come from another machine. So only the last two parts of each
path are compared: the class folder and the file name.
"""

from pathlib import Path
from typing import TypeVar

from dassl.data.datasets import Datum
from dassl.utils import InputError, read_json
from dassl.utils.unpickle import read_pickle

Key = tuple[str, ...]
D = TypeVar("D", bound=Datum)


def pick_listed(path: str, items: list[D], split: str, subsampled: bool) -> list[D]:
    """Return the `items` that the file at `path` lists under `split`, in the file's order.

    Args:
        split: "train" or "val".
        subsampled: True if `items` holds only the base or only the new classes. The file may then list images that
            aren't in `items`.

    Raises:
        InputError: if the file can't be read; if it lists images that aren't in `items`, although `subsampled` is
            False; or if a class has no image in the file.
    """
    listed = _read_paths(path, split)
    known = {_key(item.impath): item for item in items}
    picks = [known[_key(name)] for name in listed if _key(name) in known]
    if len(picks) < len(listed) and not subsampled:
        raise InputError(
            f"{path} (DATASET.FEWSHOT_FILE) lists {len(listed) - len(picks)} {split} images that aren't in the data set"
        )
    lost = {item.label for item in items} - {item.label for item in picks}
    if lost and (listed or split == "train"):
        raise InputError(f"{path} (DATASET.FEWSHOT_FILE) lists no {split} images for the labels {sorted(lost)}")
    return picks


def _read_paths(path: str, split: str) -> list[str]:
    """Return the image paths that the file lists under `split`. An entry is a `Datum`, or a list [path, ...]."""
    try:
        content = read_pickle(path) if Path(path).suffix == ".pkl" else read_json(path)
        return [entry.impath if isinstance(entry, Datum) else entry[0] for entry in content.get(split, [])]
    except OSError:
        raise
    except Exception as error:  # a broken pickle can raise almost any exception
        raise InputError(f"can't read few-shot images from {path} (DATASET.FEWSHOT_FILE): {error!r}") from error


def _key(path: str) -> Key:
    """Return the last two parts of a path, which are the class folder and the file name."""
    return Path(path).parts[-2:]
