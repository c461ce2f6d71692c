"""Reads pickles of few-shot images, as data. Code in the pickles isn't run.

`datasets/` uses this module to read few-shot caches of the original code. `untrusted/pickles.py` explains how a pickle
is read.
"""

import io
from pathlib import Path

from untrusted.pickles import Global, Malformed, StandIn, load

__all__ = ["Malformed", "read_pickle"]

_DATUM = Global("dassl.data.datasets.base_dataset", "Datum")
_MAX_BYTES = 2**28  # a few-shot list of ImageNet with 16 images per class has 2 MB


def read_pickle(path: str | Path) -> dict[object, list]:
    """Read a pickle of few-shot images, {split: [Datum, ...]}. Each Datum becomes a list [path, label, class name].

    So the result has the same form as the content of a run's fewshot.json.

    Raises:
        Malformed: the file isn't a pickle of containers, numbers, texts and objects of `Datum`.
        OSError: the file can't be read.
    """
    if Path(path).stat().st_size > _MAX_BYTES:
        raise Malformed(f"the pickle has more than {_MAX_BYTES} bytes")
    content = load(io.BytesIO(Path(path).read_bytes()))
    if not isinstance(content, dict):
        raise Malformed(f"the pickle holds a {type(content).__name__} instead of a dict")
    return {split: [_entry(item) for item in _items(items)] for split, items in content.items()}


def _items(items: object) -> list:
    if not isinstance(items, list | tuple):
        raise Malformed(f"a split of the pickle is a {type(items).__name__} instead of a list")
    return list(items)


def _entry(item: object) -> object:
    """Return [path, label, class name] if `item` is a pickled `Datum`, or `item` if it is anything else."""
    if not isinstance(item, StandIn):
        return item
    state = item.state
    if item.cls != _DATUM or not isinstance(state, dict):
        raise Malformed(f"the pickle holds an object of {item.cls}")
    if not isinstance(state.get("_impath"), str):
        raise Malformed("an image in the pickle has no path")
    return [state.get(f"_{name}") for name in ("impath", "label", "classname")]
