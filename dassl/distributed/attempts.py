"""Lets the processes of a run meet again after torchrun has restarted them."""

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import PrefixStore, Store

_PAUSE = 0.02  # seconds between two readings of the store


def fresh(store: "Store", rank: int, size: int, timeout: timedelta) -> "PrefixStore":
    """Return a part of the store in which no process has written before. All processes call this function.

    torchrun keeps the store when it restarts the processes, so addresses of processes that have ended are still in it.
    Therefore the main process writes a random name of this attempt. Each other process writes a random id of its own
    under this name, and continues once the main process has written this id back. Earlier attempts can't know the id.

    Raises:
        RuntimeError: another process hasn't called this function in time.
    """
    from torch.distributed import PrefixStore

    own = uuid.uuid4().hex
    if rank == 0:
        store.set("attempt", own)
        for other in range(1, size):
            store.set(f"{own}/{other}/heard", store.get(f"{own}/{other}").decode())  # get waits
        return PrefixStore(own, store)
    end = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < end:
        attempt = store.get("attempt").decode()  # may still be an earlier attempt
        heard = f"{attempt}/{rank}/heard"
        store.set(f"{attempt}/{rank}", own)
        if store.check([heard]) and store.get(heard).decode() == own:
            return PrefixStore(attempt, store)
        time.sleep(_PAUSE)
    raise RuntimeError("the main process hasn't joined in time")
