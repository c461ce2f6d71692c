"""Images that are not decoded twice: training images in memory, resized test images on disk."""

import contextlib
import functools
import hashlib
import mmap
import multiprocessing
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.data.transforms.transforms import InstanceNormalization
from dassl.utils import tools
from dassl.utils.errors import InputError
from dassl.utils.tools import cache_folder, read_image, versions, write_atomically

Kept = TypeVar("Kept")


class DecodedImages:
    """Decoded images by number, in memory that a loader's workers share, as many as fit.

    The workers fill it while they read the first epoch; memory is taken as it is filled. Workers share it if they are
    forks of this process; a copy, or what a worker of another kind gets, keeps nothing.

    Args:
        paths: the images.
        budget: bytes that their pixels may take.
    """

    def __init__(self, paths: Sequence[str], budget: int):
        self._paths = list(paths)
        self._pixels = mmap.mmap(-1, max(budget, 1))
        # Of every image: where its pixels start, height, width (0: not here).
        self._places = np.frombuffer(mmap.mmap(-1, 24 * max(len(paths), 1)), np.int64).reshape(-1, 3)
        self._used = multiprocessing.Value("q", 0)

    def __reduce__(self):
        return DecodedImages, (self._paths, 0)

    def read(self, number: int, path: str) -> Image.Image:
        """The image `path`, decoded where it isn't here. Raises InputError as `read_image` does."""
        if self._paths[number : number + 1] != [path]:  # somebody has put in other images
            return read_image(path)
        start, height, width = self._places[number].tolist()
        if width:
            pixels = memoryview(self._pixels)[start : start + 3 * height * width]
            return Image.frombytes("RGB", (width, height), pixels)
        image = read_image(path)
        size = 3 * image.width * image.height
        with self._used.get_lock():
            start = self._used.value
            if start + size > len(self._pixels):
                return image
            self._used.value += size
        self._pixels[start : start + size] = image.tobytes()
        self._places[number] = start, image.height, image.width
        return image


def can_keep(transform: Any) -> bool:
    """Whether a transform is such as `build_transform` makes for tests: without chance, and all that it does is in its
    `repr`."""
    known = (T.Resize, T.CenterCrop, T.ToTensor, T.Normalize, InstanceNormalization)
    stages = [type(stage) for stage in transform.transforms] if type(transform) is T.Compose else []
    return T.ToTensor in stages and set(stages) <= set(known)


def identity(path: str) -> tuple[str, int, int]:
    """What tells an image, and a changed one, from others: path, size and time of change. Raises InputError where there
    is no such file."""
    try:
        about = os.stat(path)
    except OSError as error:
        raise InputError(f"can't read the image {path}: {error}") from error
    return os.path.abspath(path), about.st_size, about.st_mtime_ns


@functools.cache
def code(*modules: ModuleType) -> str:
    """A hash of modules' source code: what was made by another version is not used."""
    return hashlib.blake2b(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()


def cached(
    what: str, name: str, make: Callable[[], Kept], load: Callable[[Path], Kept], save: Callable[[Kept, Path], None]
) -> Kept:
    """What the file `name` of the cache holds, or what `make` gives, which is then kept there.

    A cache that can't be read or written costs time, never a result: it is told, and things go on without.
    """
    file = None
    with _told(f"read {what}"):
        file = cache_folder() / name
        if file.is_file():
            return load(file)
    made = make()
    with _told(f"keep {what}"):
        if file:
            with write_atomically(file) as unfinished:
                save(made, unfinished)
    return made


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__  # no path: told once
        warnings.warn(f"can't {what} in the cache (XDG_CACHE_HOME names another folder): {reason}", stacklevel=4)


def resized(path: str, transform: T.Compose) -> torch.Tensor:
    """`transform` of the image `path`, which `can_keep`, whose resized pixels are kept in `cache_folder()`/images.

    The file's name is a hash of the image's identity, of what is done to it, of this code and of the versions.
    Raises InputError as `read_image` does.
    """
    cut = [type(stage) for stage in transform.transforms].index(T.ToTensor)
    before, after = T.Compose(transform.transforms[:cut]), T.Compose(transform.transforms[cut:])
    key = repr((identity(path), repr(before), code(tools, sys.modules[__name__]), versions()))
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()

    def make() -> np.ndarray:
        return np.asarray(before(read_image(path)))

    pixels = cached("resized images", f"images/{name[:2]}/{name}.npy", make, np.load, _save)
    return after(Image.fromarray(pixels))


def _save(pixels: np.ndarray, file: Path) -> None:
    with file.open("wb") as output:  # by its name np.save would give it another ending
        np.save(output, pixels)
