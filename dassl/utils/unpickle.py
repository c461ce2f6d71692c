"""Reads untrusted pickles without running code from them.

`torchtools.load_checkpoint` uses this module for official checkpoints, and `datasets/base.py` for few-shot caches. A
class that isn't on the list of allowed ones is replaced by `Inert`, which does nothing.
"""

import pickle
from pathlib import Path
from typing import IO, Any

#: Classes and functions that may really be called: tensors, containers and plain numbers.
_ALLOWED = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("builtins", "set"),
    ("builtins", "dict"),
    ("builtins", "list"),
    ("builtins", "tuple"),
    ("builtins", "int"),
    ("builtins", "float"),
}
_DATUM = ("dassl.data.datasets.base_dataset", "Datum")


class Inert:
    """Replaces every other class or function of a pickle. Accepts any arguments and any state, and ignores them."""

    def __init__(self, *args: object, **kwargs: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Ignore the value."""

    def extend(self, values: object) -> None:
        """Ignore the values."""


class Unpickler(pickle.Unpickler):
    """A `pickle.Unpickler` that builds tensors, containers and `Datum`. Everything else becomes `Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function itself if it is allowed, or else `Inert`."""
        if (module, name) in _ALLOWED | {_DATUM} or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        return Inert


def load(file: IO[bytes], **kwargs: Any) -> Any:
    """`pickle.load` with the restricted `Unpickler`. `torch.load` calls both by these names in its `pickle_module`."""
    return Unpickler(file, **kwargs).load()


def read_pickle(path: str | Path) -> Any:
    """Content of a pickle file, read by the restricted `Unpickler`."""
    with open(path, "rb") as file:
        return load(file)
