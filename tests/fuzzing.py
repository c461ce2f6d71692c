"""What the tests with generated inputs share: how many inputs, how long each may take, and mutations of bytes.

The tests generate few inputs, and always the same ones. `FUZZ=long python -m pytest tests/test_security_*.py` generates
the full number, and other ones at each call.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = os.environ.get("FUZZ") == "long"
SECONDS = 10  # no input may take longer


def examples(short: int, long: int) -> settings:
    """Settings of a test: the number of inputs in the suite, and with FUZZ=long."""
    return settings(
        max_examples=long if LONG else short,
        derandomize=not LONG,
        database=None,
        deadline=None,  # `limited` limits the time, and its traceback shows where it was spent
        suppress_health_check=list(HealthCheck),
    )


class Hang(BaseException):
    """Raised in code that runs for too long. No code catches it."""


@contextlib.contextmanager
def limited(seconds: int = SECONDS) -> Iterator[None]:
    """A context manager that raises `Hang` after SECONDS of CPU time, or after some seconds in all."""

    def stop(*_: object) -> None:
        raise Hang(f"took longer than {SECONDS} s of CPU time, or {seconds} s in all")

    assert threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some bytes changed, removed or inserted, or cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        # Half of the changes are near the start, where the headers are.
        limit = len(changed) - 1 if draw(st.booleans()) else min(100, len(changed) - 1)
        at = draw(st.integers(0, max(0, limit)))
        kind = draw(st.sampled_from(["set", "remove", "insert", "cut", "repeat"]))
        if kind == "set":
            changed[at : at + 1] = bytes([draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))])
        elif kind == "remove":
            del changed[at : at + draw(st.integers(1, 20))]
        elif kind == "insert":
            changed[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "repeat":
            changed[at:at] = changed[at : at + draw(st.integers(1, 40))]
        elif draw(st.booleans()):
            del changed[at:]
    return bytes(changed)
