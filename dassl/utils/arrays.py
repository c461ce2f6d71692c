"""`read_arrays` reads arrays from a .npz file, and checks their shapes and numbers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dassl.utils.errors import InputError


def read_arrays(path: str | Path, dimensions: Mapping[str, tuple[int, ...]]) -> list[np.ndarray]:
    """Return arrays of numbers from a .npz file. No code in the file is executed.

    Args:
        dimensions: {name of an array: allowed numbers of dimensions}.

    Raises:
        InputError: the file is damaged, an array is missing or has another number of dimensions, or a number is
            infinite or NaN.
        OSError: the file can't be read.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in dimensions}
    except OSError:
        raise
    except Exception as error:  # reading a broken file can raise almost any error
        raise InputError(f"can't read arrays from {path}: {type(error).__name__}: {error}") from error
    for name, array in arrays.items():
        if array.ndim not in dimensions[name] or array.dtype.kind not in "fiu":
            allowed = " or ".join(map(str, dimensions[name]))
            raise InputError(
                f"{path}: {name} must have {allowed} dimensions of numbers, not {array.ndim} of {array.dtype}"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} contains infinite or NaN values")
    return list(arrays.values())
