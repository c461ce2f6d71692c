"""`mix_seed` combines numbers into a seed.

Data sets, loaders and the training loop call it to get an independent seed for each item or epoch. This module doesn't
import torch, so that data sets can import it quickly.
"""

import hashlib


def mix_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**32) that depends on all `parts`. Similar parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
