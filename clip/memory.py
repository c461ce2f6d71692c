"""Helps to limit the text tower's memory. Computes how many tokens fit, and gives freed memory back to the system.

`PromptTrainer` picks the chunk size with `fitting_chunk`. The text tower calls `trim_heap` before each chunk.
"""

import ctypes
import math
import sys

from clip.sizes import Sizes


def fitting_chunk(sizes: Sizes, memory: int) -> int:
    """Return how many class tokens a chunk can have if training on the chunk may use a quarter of `memory` bytes.

    The result is rounded down to a power of two, but is at least 256. `memory` should be the memory that a job may use,
    not the memory that is free at the moment. Another chunk size leads to other rounding errors, which change training
    results slightly.
    """
    per_token = 18 * 4 * sizes.transformer_width * sizes.transformer_layers  # bytes of saved activations
    return 2 ** max(8, int(math.log2(memory / 4 / per_token + 1)))


def trim_heap() -> None:
    """On Linux with glibc, return freed memory to the system. On other systems, do nothing.

    glibc keeps freed memory in pieces that are too small for the next chunk. Without this call, the memory of the
    process would grow with every chunk.
    """
    if sys.platform == "linux":
        # C libraries other than glibc have no malloc_trim. In that case `int` is called instead, which does nothing.
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
