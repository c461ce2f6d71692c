"""Memory of the text tower: how many tokens fit, and how free memory goes back to the system between chunks.

`PromptTrainer` picks the chunk size with `fitting_chunk`. The text tower calls `trim_heap` before each chunk.
"""

import ctypes
import math
import sys

from clip.sizes import Sizes


def fitting_chunk(sizes: Sizes, free: int) -> int:
    """Number of class tokens whose training step fits in half of `free` bytes.

    The result is a power of two, at least 256. So it seldom changes on one machine: chunks change results by rounding.
    """
    per_token = 18 * 4 * sizes.transformer_width * sizes.transformer_layers  # bytes of activations that a step saves
    return 2 ** max(8, int(math.log2(free / 2 / per_token + 1)))


def trim_heap() -> None:
    """Return free memory to the system on Linux.

    glibc keeps freed memory in pieces that are too small for the next chunk, so memory would grow with every chunk.
    """
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # C libraries other than glibc don't have it: call int(0)
