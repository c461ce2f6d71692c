"""Chooses the device of a run, and answers questions whose answer depends on the type of the device.

Trainers, loaders and tools call these functions. No other code asks whether a GPU is available, except `clip.load`,
which follows OpenAI's rule. So a test that replaces `best_device` moves whole runs to another device.
"""

from typing import TYPE_CHECKING

from dassl import distributed
from dassl.utils.tools import memory_limit

if TYPE_CHECKING:
    import torch


def best_device() -> "torch.device":
    """Return the fastest device of this machine: CUDA, otherwise MPS (the GPU of a Mac), otherwise the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    # Trainers call `torch.autocast`, which PyTorch 2.4 doesn't support on MPS.
    if torch.backends.mps.is_available() and torch.amp.is_autocast_available("mps"):
        return torch.device("mps")
    return torch.device("cpu")


def choose_device(use_cuda: bool) -> "torch.device":
    """Return the device of a run.

    Args:
        use_cuda: value of USE_CUDA. True: the fastest device of this machine; False: the CPU.
    """
    import torch

    return best_device() if use_cuda else torch.device("cpu")


def device_name(device: "torch.device") -> str:
    """Return the name of a device: the model of a CUDA GPU, or "CPU, 2 threads", or the type of another device.

    The log shows the name. The name is also part of the feature cache's keys, because each device rounds differently,
    and a CPU's rounding depends on the number of threads.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def device_memory(device: "torch.device") -> int:
    """Return the number of bytes of a device's memory. It doesn't depend on how much of the memory is in use.

    For devices other than CUDA GPUs, this is the process's share of the CPU's memory. MPS shares the memory of the CPU.
    """
    import torch

    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else memory_limit() // distributed.local_size()
