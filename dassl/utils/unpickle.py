"""Reads pickles of strangers without running anything of theirs."""

import pickle
from pathlib import Path
from typing import Any

#: What may be built for real: tensors, containers and plain numbers.
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
    """Stands where a file names any other class or function: takes all arguments and state, and does nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass


class Unpickler(pickle.Unpickler):
    """A `pickle.Unpickler` that knows tensors, containers and `Datum`; all else becomes `Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED | {_DATUM} or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        return Inert


def load(file, **kwargs) -> Any:
    """`pickle.load` through the restricted `Unpickler`: with `Unpickler`, what torch asks of a pickle module."""
    return Unpickler(file, **kwargs).load()


def read_pickle(path: str | Path) -> Any:
    """Content of a pickle file, restricted as above."""
    with open(path, "rb") as file:
        return load(file)
