"""Writes a small CLIP with ViT-B/16's widths, 4 layers and random weights, for trying things out: small_clip.py FILE.

It takes images of 64 x 64 pixels: INPUT.SIZE "(64,64)". Its weights are those that the golden values were made with.
"""

import functools
import sys

import formula
import torch


@functools.lru_cache(maxsize=2)
def state_dict(**sizes) -> dict[str, torch.Tensor]:
    """OpenAI's layout, float32; `sizes` change entries of `formula.SMALL`."""
    arrays = formula.clip_state_dict(**(formula.SMALL | sizes))
    return {name: torch.as_tensor(array) for name, array in arrays.items()}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/small_clip.py FILE")
    torch.save(state_dict(), sys.argv[1])
    print(f"wrote {sys.argv[1]}")
