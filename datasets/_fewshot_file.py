"""Reads few-shot picks from a file (DATASET.FEWSHOT_FILE) instead of drawing them. `FewShotDataset.select` calls it.

The file is a run's fewshot.json or a cache of the original code (.pkl). Its absolute paths may come from another
machine. So an image is recognised by class folder and file name, the last two parts of its path.
"""

from pathlib import Path
from typing import TypeVar

from dassl.data.datasets import Datum
from dassl.utils import InputError, read_json
from dassl.utils.unpickle import read_pickle

Key = tuple[str, ...]
D = TypeVar("D", bound=Datum)


def pick_listed(path: str, items: list[D], split: str, subsampled: bool) -> list[D]:
    """Return the `items` that the file lists under `split`, in the file's order.

    Args:
        split: train or val.
        subsampled: whether `items` are of the base or new classes only. The file may then list other images too.

    Raises:
        InputError: if the file can't be read, if it lists unknown images, or if a class gets no image.
    """
    listed = _read_paths(path, split)
    known = {_key(item.impath): item for item in items}
    picks = [known[_key(name)] for name in listed if _key(name) in known]
    if len(picks) < len(listed) and not subsampled:
        raise InputError(f"{path} (DATASET.FEWSHOT_FILE): {len(listed) - len(picks)} {split} images are missing")
    lost = {item.label for item in items} - {item.label for item in picks}
    if lost and (listed or split == "train"):
        raise InputError(f"{path} (DATASET.FEWSHOT_FILE) lists no existing {split} image for labels {sorted(lost)}")
    return picks


def _read_paths(path: str, split: str) -> list[str]:
    """Return the image paths under `split`. An entry is a `Datum` or a list that begins with the path."""
    try:
        content = read_pickle(path) if Path(path).suffix == ".pkl" else read_json(path)
        return [entry.impath if isinstance(entry, Datum) else entry[0] for entry in content.get(split, [])]
    except OSError:
        raise
    except Exception as error:  # a broken pickle can raise almost anything
        raise InputError(f"can't read picks from {path} (DATASET.FEWSHOT_FILE): {error!r}") from error


def _key(path: str) -> Key:
    """(class folder, file name) of a path."""
    return Path(path).parts[-2:]
