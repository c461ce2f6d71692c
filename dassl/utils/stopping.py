"""Turns signals that stop a process into one line and an exit code. `command_line.report_errors` uses this module.

A run that is stopped by Ctrl-C or by SIGTERM can be resumed, as after a kill. Clusters send SIGTERM before they kill a
job.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: {exit code of a stopped command: what has stopped it}. The codes are 128 + the number of the signal, as in a shell.
STOPPED = {130: "Ctrl-C", 143: "SIGTERM"}


class Terminated(BaseException):
    """Raised in the main thread when the process gets SIGTERM. Not an `Exception`, like `KeyboardInterrupt`."""


def exit_code(error: KeyboardInterrupt | Terminated) -> int:
    """Return the exit code of a command that was stopped by `error`."""
    return 143 if isinstance(error, Terminated) else 130


@contextlib.contextmanager
def raise_when_terminated() -> Iterator[None]:
    """A context manager in which SIGTERM raises `Terminated`, so that open files and locks are closed.

    Does nothing outside the main thread, because only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def killed_worker(error: BaseException) -> bool:
    """Return whether `error` is PyTorch's error for a loader's worker process that was killed."""
    text = str(error)
    return (
        isinstance(error, RuntimeError)
        and text.startswith("DataLoader worker")
        and ("is killed by signal" in text or "exited unexpectedly" in text)
    )
