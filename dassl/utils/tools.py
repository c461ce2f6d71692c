"""Seeds, images, memory and versions, under Dassl's names. torch is imported only by the functions that need it.

File helpers are in `files.py`. Dassl has them here, so this module offers them too.
"""

import functools
import os
import platform
import random
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import PIL
import psutil
from PIL import Image

from dassl.utils.errors import InputError, unknown
from dassl.utils.files import cache_folder as cache_folder
from dassl.utils.files import check_isfile as check_isfile
from dassl.utils.files import listdir_nohidden as listdir_nohidden
from dassl.utils.files import mkdir_if_missing as mkdir_if_missing
from dassl.utils.files import read_json as read_json
from dassl.utils.files import write_atomically as write_atomically
from dassl.utils.files import write_json as write_json
from dassl.utils.files import write_text as write_text


def cpu_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of memory that this process may still allocate.

    This is the machine's free memory, or less if a control group (of a container or a Slurm job) has a lower limit.
    """
    return max(0, min([psutil.virtual_memory().available, *_left_by_control_groups()]))


def _left_by_control_groups() -> Iterator[int]:
    """Bytes left below the limit of each control group of this process. Linux only, versions 1 and 2."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            names = ("limit_in_bytes", "usage_in_bytes", "stat") if controllers else ("max", "current", "stat")
            folder = Path("/sys/fs/cgroup", controllers) / group.lstrip("/")
            for inside in (folder, *folder.parents):
                limit, used, stat = (_lines(inside / f"memory.{name}") for name in names)
                if limit and limit[0].isdigit():
                    files = sum(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))
                    yield int(limit[0]) - int(used[0]) + files  # the kernel frees inactive file pages on demand


def _lines(path: Path) -> list[str]:
    """Lines of a file. Empty if the file doesn't exist."""
    return path.read_text().splitlines() if path.is_file() else []


def set_random_seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (CPU and all GPUs)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def set_deterministic(on: bool) -> None:
    """Make torch use deterministic algorithms only, or any algorithm.

    If `on`, torch raises RuntimeError for an operation without a deterministic algorithm.
    """
    import torch
    from torch.utils import deterministic

    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this setting
    torch.use_deterministic_algorithms(on)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # filling memory costs time
    torch.backends.cudnn.benchmark = not on  # benchmarking picks an algorithm by its time, so picks vary


def check_availability(requested: str, available: list[str]) -> None:
    """Raise InputError if `requested` isn't in `available`."""
    if requested not in available:
        raise unknown("name", requested, available)


def tolist_if_not(x: object) -> list:
    """`x` itself if it is a list, or else a list with `x` as its only item."""
    return x if isinstance(x, list) else [x]


def read_image(path: str | Path) -> Image.Image:
    """An image as RGB. Raises InputError if the file is missing, truncated or no image."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # PIL would clip 16-bit values at 255
                return image.point(lambda value: value / 256).convert("L").convert("RGB")
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels are of mode {image.mode}, whose range is unknown; save it with 8 bits")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"can't read the image {path}: {error}") from error


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = ("torch", "torchvision", "open_clip_torch", "numpy")
    return {"python": platform.python_version(), "pillow": PIL.__version__} | {name: version(name) for name in packages}


def collect_env_info() -> str:
    """A line with the versions and a line with the device, for the log."""
    import torch

    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{packages}\n{platform.platform()}, {device}"
