"""Helpers for seeds, images, memory and versions. Functions that need torch import it when they are called.

The file helpers are defined in `files.py`. Because Dassl defines the file helpers in this module, callers can import
them from here, too.
"""

import contextlib
import functools
import os
import platform
import random
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING

import PIL
import psutil
from PIL import Image, UnidentifiedImageError

from dassl.utils.errors import InputError, unknown
from dassl.utils.files import cache_folder as cache_folder
from dassl.utils.files import check_isfile as check_isfile
from dassl.utils.files import listdir_nohidden as listdir_nohidden
from dassl.utils.files import mkdir_if_missing as mkdir_if_missing
from dassl.utils.files import read_json as read_json
from dassl.utils.files import write_atomically as write_atomically
from dassl.utils.files import write_json as write_json
from dassl.utils.files import write_text as write_text

if TYPE_CHECKING:
    import torch


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Return the number of bytes of memory that this process may still allocate.

    This is the machine's free memory, or less if a control group (of a container or a Slurm job) limits the memory.
    """
    left = [limit - used for limit, used in _limits_of_control_groups()]
    return max(0, min([psutil.virtual_memory().available, *left]))


def memory_limit() -> int:
    """Return the number of bytes of memory that this process could use if nothing else used the memory.

    This is the machine's memory, or less if a control group limits it. Unlike `free_memory`, it doesn't change while
    the machine is used, so decisions that change results should depend on it.
    """
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _limits_of_control_groups())])


def _limits_of_control_groups() -> Iterator[tuple[int, int]]:
    """Yield (limit, bytes in use that the kernel can't free) for each control group of this process with a limit.

    Control groups exist only on Linux. Versions 1 and 2 are supported. On other systems, yield nothing.
    """
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            names = ("limit_in_bytes", "usage_in_bytes", "stat") if controllers else ("max", "current", "stat")
            folder = Path("/sys/fs/cgroup", controllers) / group.lstrip("/")
            for inside in (folder, *folder.parents):
                limit, used, stat = (_lines(inside / f"memory.{name}") for name in names)
                if limit and limit[0].isdigit():
                    files = sum(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))
                    yield int(limit[0]), int(used[0]) - files  # the kernel can free inactive file pages


def _lines(path: Path) -> list[str]:
    """Return the lines of a file, or an empty list if the file doesn't exist."""
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def set_random_seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (of all devices)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def restored_generators() -> Iterator[None]:
    """A context manager that restores the states of the CPU's random generators (Python, NumPy and torch).

    Evaluation draws only from these generators, for example when it starts a data loader.
    """
    import numpy as np
    import torch

    python, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(tensors)


def set_deterministic(on: bool) -> None:
    """Allow only deterministic algorithms in torch if `on` is True, or all algorithms if `on` is False.

    If `on` is True, torch raises RuntimeError for an operation that has no deterministic algorithm.
    """
    import torch
    from torch.utils import deterministic

    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this setting
    torch.use_deterministic_algorithms(on)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # filling new memory costs time
    torch.backends.cudnn.benchmark = not on  # if True, cuDNN picks the algorithm that runs fastest, so runs may differ


def check_availability(requested: str, available: list[str]) -> None:
    """Raise InputError if `requested` isn't in `available`."""
    if requested not in available:
        raise unknown("name", requested, available)


def tolist_if_not(x: object) -> list:
    """Return `x` if it is a list, or else a list that contains only `x`."""
    return x if isinstance(x, list) else [x]


#: Formats of images that are read, in Pillow's names. Pillow chooses the format by a file's content, and some of its
#: other formats start programs, such as EPS. GIF is in the list because Oxford Pets has GIF files that end in .jpg.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")


def read_image(file: str | Path | IO[bytes], name: str = "", max_pixels: int | None = None) -> Image.Image:
    """Return an image in RGB. Every part of the project that reads a user's images calls this function.

    Args:
        file: a path, or an open binary file.
        name: what error messages call the image. "": its path.
        max_pixels: largest width x height that is decoded. None: Pillow's limit, about 180 million pixels.

    Raises:
        InputError: the file is missing, is damaged, is too large, or isn't an image in one of `IMAGE_FORMATS`.
    """
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            if max_pixels and image.width * image.height > max_pixels:
                size = f"{image.width} x {image.height}"
                raise ValueError(f"its size is {size} pixels, more than {max_pixels / 1e6:.3g} million pixels")
            if image.mode.startswith("I;16"):  # without the division below, PIL would clip 16-bit values at 255
                return image.point(lambda value: value / 256).convert("L").convert("RGB")
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixel mode {image.mode} has no known range; save it with 8-bit pixels")
            return image.convert("RGB")
    except Exception as error:  # decoding a damaged image can raise almost any error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror  # without the path, which the web page must not show
        if isinstance(error, UnidentifiedImageError):
            reason = f"it is none of {', '.join(IMAGE_FORMATS)}, or it is damaged"
        raise InputError(f"can't read the image {name or file}: {reason}") from error


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    packages = ("torch", "torchvision", "open_clip_torch", "numpy")
    return {"python": platform.python_version(), "pillow": PIL.__version__} | {name: version(name) for name in packages}


def collect_env_info(device: "torch.device | None" = None) -> str:
    """Return two lines for the log: the versions of packages, and the platform with the name of the device.

    Args:
        device: the device of the run. None: the fastest device of this machine.
    """
    from dassl.utils.devices import best_device, device_name

    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{packages}\n{platform.platform()}, {device_name(device or best_device())}"
