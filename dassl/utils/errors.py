"""`InputError`: the exception for everything that a user can correct, such as a wrong name, key, file or value.

All parts of the project raise `InputError`. `report_errors` prints the error as one line, without a traceback.
"""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Raised for a wrong input. The message says in one line what is wrong, where, and what to do."""

    def __init__(self, message: str):
        # If a DataLoader worker raises an InputError, the loader makes another InputError from the worker's whole
        # traceback. Keep only the original message, which is at the end of the traceback.
        super().__init__(str(message).rsplit("InputError: ", maxsplit=1)[-1].strip())


class ClassNameError(InputError):
    """Raised if a class name can't be used. The message names the class, and no path of this machine."""


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """Return an error for an unknown `name`. The message suggests the closest known name and lists all known names.

    Args:
        what: the kind of thing that was looked up, for example "trainer".
        name: the unknown name.
        known: all known names.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return InputError(f"unknown {what} {name!r}.{hint} There is: {', '.join(names) or 'none'}")
