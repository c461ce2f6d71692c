"""Two image caches: one keeps decoded training images in memory, the other keeps resized test images on disk.

`DatasetWrapper` uses both caches. `trainers/common/features.py` calls `cached` to keep image features on disk, too.
The caches never change a result, because the name of a cache file is a hash of everything on which the file's content
depends. If a cache file can't be read or written, a warning is logged and the content is computed.
"""

import contextlib
import functools
import hashlib
import io
import mmap
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, TypeGuard, TypeVar

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.data.transforms.transforms import InstanceNormalization
from dassl.utils.checksums import DamagedError, seal, unseal
from dassl.utils.errors import InputError
from dassl.utils.files import cache_folder, write_bytes
from dassl.utils.tools import read_image, versions

Content = TypeVar("Content")

_READER = sys.modules[read_image.__module__]  # the module whose code decodes images


class DecodedImageCache:
    """A cache of decoded images in memory that all loader workers share.

    Workers fill the cache during the first epoch. Images that don't fit into it are decoded in every epoch. Workers
    share the memory only if they are forks of this process. If a cache is pickled or deep-copied, the copy is empty and
    stays empty.

    Args:
        paths: the image files.
        budget: maximum number of bytes for the pixels.
    """

    def __init__(self, paths: Sequence[str], budget: int):
        self._paths = list(paths)
        # Anonymous memory maps: the operating system allocates each page at the first write to the page.
        self._pixels = mmap.mmap(-1, max(budget, 1))
        # (n_images, 3): position of the first pixel, height and width of each image. Width 0: the image isn't cached.
        self._places = np.frombuffer(mmap.mmap(-1, 24 * max(len(paths), 1)), np.int64).reshape(-1, 3)
        self._used = multiprocessing.Value("q", 0)

    def __reduce__(self) -> tuple[type, tuple[list[str], int]]:
        return DecodedImageCache, (self._paths, 0)

    def read(self, index: int, path: str) -> Image.Image:
        """Return the image in the file `path`, which is `paths[index]`. If the image isn't cached, decode the file.

        Raises:
            InputError: the file is missing or isn't a readable image.
        """
        if self._paths[index : index + 1] != [path]:  # the data set's items changed after the cache was made
            return read_image(path)
        start, height, width = self._places[index].tolist()
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
        # Set the position last, because other workers must not find the image before all its pixels are stored.
        self._places[index] = start, image.height, image.width
        return image


def is_cacheable(transform: object) -> TypeGuard[T.Compose]:
    """Return whether the output of `transform` may be cached under a hash of `repr(transform)`.

    Return True only for the test transforms that `build_transform` makes. These transforms are deterministic, and
    their `repr` contains all their parameters. Other transforms may be random, or their `repr` may lack parameters.
    """
    if not isinstance(transform, T.Compose) or type(transform) is not T.Compose:  # a subclass may be random
        return False
    stages = {type(stage) for stage in transform.transforms}
    return T.ToTensor in stages and stages <= {T.Resize, T.CenterCrop, T.ToTensor, T.Normalize, InstanceNormalization}


def file_identity(path: str) -> tuple[str, int, int]:
    """Return (absolute path, size in bytes, modification time in ns) of a file. This tuple changes if the file changes.

    Raises:
        InputError: the file doesn't exist or can't be accessed.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"can't read the image {path}: {error}") from error
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


@functools.cache
def source_hash(*modules: ModuleType) -> str:
    """Return a hash of the modules' source code.

    The names of cache files depend on this hash, so cache files that another version of the code wrote aren't used.
    """
    return hashlib.blake2b(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()


def cached(
    what: str,
    name: str,
    make: Callable[[], Content],
    load: Callable[[BinaryIO], Content],
    save: Callable[[Content, BinaryIO], object],
) -> Content:
    """Return the content of a cache file. If the file doesn't exist, compute the content with `make` and save it.

    If the file can't be read or written, or if its checksum is wrong, log a warning and continue without the file.

    Args:
        what: name of the content in warnings, such as "image features".
        name: path of the file below `cache_folder()`.
        make: function that computes the content.
        load: function that reads the content from an open file.
        save: function that writes the content to an open file.
    """
    content = load_cached(what, name, load)
    if content is None:
        content = make()
        save_cached(what, name, content, save)
    return content


def load_cached(what: str, name: str, load: Callable[[BinaryIO], Content]) -> Content | None:
    """Return the content of a cache file. Returns None if the file doesn't exist or can't be read. See `cached`."""
    with _warn_and_continue(f"read {what} from"):
        file = cache_folder() / name
        if file.is_file():
            return load(io.BytesIO(unseal(file.read_bytes(), file)))
    return None


def save_cached(what: str, name: str, content: Content, save: Callable[[Content, BinaryIO], object]) -> None:
    """Write a cache file, if possible. See `cached`."""
    with _warn_and_continue(f"write {what} to"):
        file, stream = cache_folder() / name, io.BytesIO()
        save(content, stream)
        write_bytes(seal(stream), file, durable=False)


@contextlib.contextmanager
def _warn_and_continue(action: str) -> Iterator[None]:
    """A context manager that turns an error in reading or writing a cache file into a warning."""
    try:
        yield
    except Exception as error:  # reading a broken file can raise almost any error
        # Python shows equal warnings only once. Omit the path, so that the warnings of all images are equal.
        reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        reason = "a file is damaged, so it is made again" if isinstance(error, DamagedError) else reason
        warnings.warn(f"can't {action} the cache: {reason}. Set XDG_CACHE_HOME to use another folder", stacklevel=4)


def transform_with_cache(path: str, transform: T.Compose) -> torch.Tensor:
    """Apply `transform` to the image `path` and return the result. Cache the resized pixels on disk.

    The cache file is in `cache_folder()`/images. Its name is a hash of the image file's identity, the resizing steps,
    the code of this module, and the versions of the libraries.

    Args:
        path: the image file.
        transform: a transform for which `is_cacheable` returns True.

    Returns:
        Tensor (3, height, width).

    Raises:
        InputError: the image is missing or can't be read.
    """
    cut = [type(stage) for stage in transform.transforms].index(T.ToTensor)
    resize, to_tensor = T.Compose(transform.transforms[:cut]), T.Compose(transform.transforms[cut:])
    code = source_hash(_READER, sys.modules[__name__])
    key = repr((file_identity(path), repr(resize), code, versions()))
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()

    def make() -> np.ndarray:
        return np.asarray(resize(read_image(path)))  # (height, width, 3), uint8

    def save(pixels: np.ndarray, file: BinaryIO) -> None:
        np.save(file, pixels)

    load = functools.partial(_load_array, transform=transform)
    pixels = cached("resized images", f"images/{name[:2]}/{name}.npy", make, load, save)
    return to_tensor(Image.fromarray(pixels))


def _load_array(file: BinaryIO, transform: T.Compose) -> np.ndarray:
    """Read resized pixels (height, width, 3), uint8. Raises ValueError if the file has another form."""
    pixels = np.load(file)
    sizes = [tuple(stage.size) for stage in transform.transforms if isinstance(stage, T.CenterCrop)]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (*sizes[-1], 3):
        raise ValueError("the file has another form")
    return pixels
