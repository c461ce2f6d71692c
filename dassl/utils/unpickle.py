"""Reads untrusted pickles without running code from them.

`torchtools.load_checkpoint` uses this module to read checkpoints of the original code. `datasets/base.py` uses it to
read few-shot caches. A class that isn't in the list of allowed classes is replaced by `Inert`, which does nothing.
"""

import pickle
from pathlib import Path
from typing import IO, Any

#: Classes and functions that a pickle may call. They make tensors, containers and plain numbers.
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
    """A class that replaces all classes and functions that a pickle must not call. Arguments and states are ignored."""

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
    """A `pickle.Unpickler` that builds tensors, containers and `Datum`. All other classes are replaced by `Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function `name` of `module` if a pickle may call it, or else `Inert`."""
        if (module, name) in _ALLOWED | {_DATUM} or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        return Inert


def load(file: IO[bytes], **kwargs: Any) -> Any:
    """Read a pickle with the restricted `Unpickler`, like `pickle.load`.

    This module can be the `pickle_module` of `torch.load`, which needs the names `load` and `Unpickler`.
    """
    return Unpickler(file, **kwargs).load()


def read_pickle(path: str | Path) -> Any:
    """Read a pickle file with the restricted `Unpickler`, and return its content."""
    with open(path, "rb") as file:
        return load(file)
