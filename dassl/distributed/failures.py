"""Reports the failure of one of several processes in a single line that names the process."""

import contextlib
import sys
import time
from collections.abc import Iterator

from dassl.distributed.group import LostProcessError, group

_PATIENCE = 5.0  # seconds in which all living processes notice that another process has stopped


@contextlib.contextmanager
def note_failure() -> Iterator[None]:
    """A context manager that tells the other processes if its body fails, so that only one process prints an error."""
    try:
        yield
    except Exception as error:
        run = group()
        if run and not isinstance(error, LostProcessError):
            _unmute()
            with contextlib.suppress(RuntimeError):  # the store may be gone
                run.prints_error = run.store.add("failed", 1) == 1
        raise


def _unmute() -> None:
    """Let this process print errors again. See `mute_others`."""
    run = group()
    if run and run.rank:
        sys.stderr = sys.__stderr__


def prints_error() -> bool:
    """Return whether this process should print its error. With several processes, only the first that fails should."""
    run = group()
    return run is None or run.prints_error


def label() -> str:
    """Return the start of this process's error messages, for example "process 1 of 4: ", or "" without torchrun."""
    run = group()
    return f"{run.name(run.rank)}: " if run else ""


def reason_to_stop(default: str) -> str:
    """Return why this process stops, if it was stopped by a signal or by `LostProcessError`.

    Every such process calls this function. Processes that don't call it within seconds are the reason.

    Args:
        default: the reason if no process is lost.

    Returns:
        The text to print; "" if another process prints it.
    """
    run = group()
    if run is None:
        return default
    _unmute()
    alive = {rank: f"alive/{rank}" for rank in range(run.size)}
    try:
        run.store.set(alive[run.rank], "1")
        end = time.monotonic() + _PATIENCE
        while lost := [rank for rank, key in alive.items() if not run.store.check([key])]:
            if time.monotonic() > end or run.store.check(["failed"]):
                break
            time.sleep(0.1)
        if run.store.add("failed", 1) > 1:
            return ""
    except RuntimeError:  # the process that kept the store is lost
        lost = [0]
    return f"error: {' and '.join(map(run.name, lost))} was killed or hangs" if lost else default
