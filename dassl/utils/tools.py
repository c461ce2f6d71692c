"""Small helpers around files and seeds, under Dassl's names."""

import contextlib
import functools
import json
import os
import platform
import random
import uuid
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import psutil
import torch
from PIL import Image
from torch.utils import deterministic

from dassl.utils.errors import InputError, unknown

__all__ = [
    "cache_folder",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "cpu_cores",
    "free_memory",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_image",
    "read_json",
    "set_deterministic",
    "set_random_seed",
    "tolist_if_not",
    "versions",
    "write_atomically",
    "write_json",
    "write_text",
]


def mkdir_if_missing(dirname: str | Path) -> None:
    """Make a folder and its parents; an empty name is the current folder."""
    os.makedirs(dirname or ".", exist_ok=True)


def cache_folder() -> Path:
    """Where things are kept that can be made again: ~/.cache/prompt-learning, or in XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "prompt-learning"


def cpu_cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or what a control group (of a container, of a
    Slurm job) leaves of its limit, if that is less."""
    return max(0, min([psutil.virtual_memory().available, *_left_by_control_groups()]))


def _left_by_control_groups() -> Iterator[int]:
    """Bytes that are left of the limit of each group that this process is in; Linux, versions 1 and 2."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            names = ("limit_in_bytes", "usage_in_bytes", "stat") if controllers else ("max", "current", "stat")
            folder = Path("/sys/fs/cgroup", controllers) / group.lstrip("/")
            for inside in (folder, *folder.parents):
                limit, used, stat = (_lines(inside / f"memory.{name}") for name in names)
                if limit and limit[0].isdigit():
                    files = sum(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))
                    yield int(limit[0]) - int(used[0]) + files  # what files take is given back


def _lines(path: Path) -> list[str]:
    """Lines of a file, none where there is no such file."""
    return path.read_text().splitlines() if path.is_file() else []


def check_isfile(fpath: str | Path) -> bool:
    """Whether `fpath` is a file; warns where it isn't."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def read_json(fpath: str | Path) -> Any:
    """Content of a JSON file. Raises InputError where it can't be parsed."""
    try:
        return json.loads(Path(fpath).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{fpath} is not valid JSON: {error}") from error


def write_json(obj: Any, fpath: str | Path) -> None:
    """Write JSON, as `write_text` does."""
    write_text(json.dumps(obj, indent=4, separators=(",", ": ")), fpath)


def write_text(text: str, fpath: str | Path) -> None:
    """Write a text file in one piece, and its folder where there is none."""
    with write_atomically(fpath) as unfinished:
        unfinished.write_text(text)


@contextlib.contextmanager
def write_atomically(fpath: str | Path) -> Iterator[Path]:
    """Another path to write to, which becomes `fpath` in the end, in a folder that is made: a reader, another writer,
    or a kill in between, never sees half a file."""
    path = Path(fpath)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def set_random_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's (CPU and all GPUs) generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def set_deterministic(on: bool) -> None:
    """Whether torch must take deterministic algorithms only; it raises RuntimeError where an operation has none."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(on)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
    torch.backends.cudnn.benchmark = not on  # picks by timing


def check_availability(requested: str, available: list[str]) -> None:
    """Raise InputError unless `requested` is among `available`."""
    if requested not in available:
        raise unknown("name", requested, available)


def tolist_if_not(x: Any) -> list:
    """`x` as a list: itself where it is one, else a list of one."""
    return x if isinstance(x, list) else [x]


def listdir_nohidden(path: str | Path, sort: bool = False) -> list[str]:
    """Names in a folder that don't start with a dot, in the file system's order unless `sort`."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_image(path: str | Path) -> Image.Image:
    """An RGB image. Raises InputError where the file is missing, cut short or no image."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # PIL would cut 16 bits off at 255
                return image.point(lambda value: value / 256).convert("L").convert("RGB")
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels are of mode {image.mode}, whose range is unknown; save it with 8 bits")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"can't read the image {path}: {error}") from error


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("torch", "torchvision", "open_clip_torch", "numpy")
    return {"python": platform.python_version(), "pillow": PIL.__version__} | {name: version(name) for name in packages}


def collect_env_info() -> str:
    """A line on the versions and one on the device, for the log."""
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{packages}\n{platform.platform()}, {device}"
