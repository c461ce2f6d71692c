"""Knows the processes of this run, which `torchrun` has started: their number, and the number of this process."""

import contextlib
import datetime
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dassl.distributed.attempts import fresh
from dassl.utils.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import Store


class LostProcessError(RuntimeError):
    """Raised in the processes that wait for another process, if this process was killed, has failed or hangs."""


@dataclass
class Group:
    """The processes of a run, as one of them sees them."""

    rank: int  # number of this process, from 0
    size: int  # number of processes
    local_size: int  # number of processes on this machine
    store: "Store"  # a small dictionary that all processes share
    prints_error: bool = True  # False: another process has failed before, so it has printed an error

    def name(self, rank: int) -> str:
        """Return the name of a process in messages."""
        return f"process {rank} of {self.size}"


_group: Group | None = None


def group() -> Group | None:
    """Return the processes of this run, or None if there is only one."""
    return _group


def mute_others() -> None:
    """Discard what all processes but the main process print, including progress bars and warnings.

    Commands call this function first. It reads torchrun's environment variables.
    """
    if _environment("WORLD_SIZE", 1) > 1 and _environment("RANK", 0):
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
        os.environ["TQDM_DISABLE"] = "1"
        warnings.simplefilter("ignore")


def join() -> None:
    """Connect this process with the other processes of the run, if torchrun has started several.

    The connection uses NCCL for tensors on GPUs and gloo for tensors on the CPU. A process waits at most DIST_TIMEOUT
    seconds for another process (an environment variable; 1,800 by default).

    Raises:
        InputError: there are more processes than GPUs on this machine.
        LostProcessError: not all processes have joined in time.
    """
    global _group
    size = _environment("WORLD_SIZE", 1)
    if _group is not None or size < 2:
        return
    import torch
    from torch import distributed

    rank, local_rank = _environment("RANK", 0), _environment("LOCAL_RANK", 0)
    timeout, backend = datetime.timedelta(seconds=_environment("DIST_TIMEOUT", 1800)), "gloo"
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"torchrun has started more processes than this machine has GPUs ({torch.cuda.device_count()}). "
                "Lower --nproc-per-node"
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    with collective():
        store, rank, size = next(distributed.rendezvous("env://", rank, size, timeout=timeout))
        store.set_timeout(timeout)
        store = fresh(store, rank, size, timeout)
        notes = distributed.PrefixStore("notes", store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    _group = Group(rank, size, _environment("LOCAL_WORLD_SIZE", size), notes)


def check_run(device: str, seed: int, single: str) -> None:
    """Check whether a run works on several processes.

    Args:
        device: type of the run's device.
        seed: the config's SEED; negative: the run isn't seeded.
        single: name of a trainer that needs a single process, or "".

    Raises:
        InputError: the run needs a single process, a seed, or another device.
    """
    if _group is None:
        return
    if single:
        raise InputError(f"the training step of {single} needs a single process. Start the command without torchrun")
    if seed < 0:
        raise InputError("several processes must draw the same random numbers. Set a seed, for example --seed 1")
    if device not in ("cpu", "cuda"):
        raise InputError(f"several processes can't use the device {device}. Set USE_CUDA False")


def _environment(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default


def size() -> int:
    """Return the number of processes of the run. Without torchrun, it is 1."""
    return _group.size if _group else 1


def local_size() -> int:
    """Return the number of processes of the run on this machine, which share its memory and its cores."""
    return _group.local_size if _group else 1


def is_main() -> bool:
    """Return whether this process writes files and prints. Exactly one process of a run does."""
    return _group is None or _group.rank == 0


@contextlib.contextmanager
def collective() -> Iterator[None]:
    """A context manager that turns torch's errors in an operation of all processes into `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(" ".join(str(error).split())) from error
