"""The one exception for what a user can mend: a wrong name, key, file or value."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A wrong input, told in one line: what was wrong, where, and what there is instead.

    `train.py` prints it without a traceback.
    """

    def __init__(self, message: str):
        # A DataLoader worker re-raises it with its own traceback as the message: keep only the line that was meant.
        super().__init__(str(message).rsplit("InputError: ", maxsplit=1)[-1].strip())


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An error for a name that isn't there: the closest ones first, then all there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return InputError(f"unknown {kind} {name!r}.{hint} There is: {', '.join(names) or 'none'}")
