"""Seeds derived from other seeds. Imports no torch, so that data sets can use it cheaply.

Data sets, loaders and the training loop call `mix_seed` to get one independent seed per item or per epoch.
"""

import hashlib


def mix_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**32) that depends on all `parts`. Similar parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
