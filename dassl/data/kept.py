"""Images that are not decoded twice: training images in memory, resized test images on disk."""

import hashlib
import mmap
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.utils.errors import InputError
from dassl.utils.tools import cache_folder, in_one_piece, read_image, versions


class DecodedImages:
    """Decoded images by number, in memory that a loader's workers share, as many as fit.

    The workers fill it while they read the first epoch; memory is taken as it is filled. Where workers are not forks
    of this process (Windows, macOS) each of them has an empty one, which keeps nothing.

    Args:
        count: how many images there are.
        budget: bytes that their pixels may take.
    """

    def __init__(self, count: int, budget: int):
        self._pixels = mmap.mmap(-1, max(budget, 1))
        # Of every image: where its pixels start, height, width (0: not here).
        self._places = np.frombuffer(mmap.mmap(-1, 24 * max(count, 1)), np.int64).reshape(-1, 3)
        self._used = multiprocessing.Value("q", 0)

    def __reduce__(self):
        return DecodedImages, (len(self._places), 0)

    def read(self, number: int, path: str) -> Image.Image:
        """The image `path`, decoded where it isn't here yet. Raises InputError as `read_image` does."""
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
    """Whether a transform begins with resizing and cropping without chance, up to the tensor."""
    return isinstance(transform, T.Compose) and _pil_stages(transform) > 0


def _pil_stages(transform: T.Compose) -> int:
    """How many stages come before `ToTensor`; 0 where one of them is none that we know."""
    for number, stage in enumerate(transform.transforms):
        if type(stage) is T.ToTensor:
            return number
        if type(stage) not in (T.Resize, T.CenterCrop):
            break
    return 0


def resized(path: str, transform: T.Compose) -> torch.Tensor:
    """`transform` of the image `path`, which `can_keep`, whose resized pixels are kept in `cache_folder()`/images.

    The file's name is a hash of path, size, time of change, of what is done to the image, and of the versions.
    Raises InputError as `read_image` does.
    """
    cut = _pil_stages(transform)
    before, after = transform.transforms[:cut], transform.transforms[cut:]
    file = _file(path, repr(before))
    if file.is_file():
        image = Image.fromarray(np.load(file))
    else:
        image = T.Compose(before)(read_image(path))
        with in_one_piece(file) as unfinished, open(unfinished, "wb") as output:
            np.save(output, np.asarray(image))
    return T.Compose(after)(image)


def _file(path: str, what: str) -> Path:
    try:
        about = os.stat(path)
    except OSError as error:
        raise InputError(f"can't read the image {path}: {error}") from error
    key = repr((os.path.abspath(path), about.st_size, about.st_mtime_ns, what, versions()))
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return cache_folder() / "images" / name[:2] / f"{name}.npy"
