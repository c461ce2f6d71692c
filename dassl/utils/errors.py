"""`InputError`: the exception for everything that a user can correct, such as a wrong name, key, file or value.

All parts of the project raise it. `report_errors` prints it as one line, without a traceback.
"""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A wrong input. The message says in one line what is wrong, where, and what to do."""

    def __init__(self, message: str):
        # A DataLoader worker re-raises the error with its own traceback as the message: keep the original message only.
        super().__init__(str(message).rsplit("InputError: ", maxsplit=1)[-1].strip())


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for an unknown `name`. Its message suggests the closest known name, then lists all known names.

    Args:
        what: what `name` is a name of, for example "trainer".
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return InputError(f"unknown {what} {name!r}.{hint} There is: {', '.join(names) or 'none'}")
