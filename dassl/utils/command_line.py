"""`report_errors` runs the main function of a command, and prints an error as one line without a traceback.

train.py, `experiments/`, `tools/` and all other commands of the project call `report_errors`. This module must
not import torch, because errors in flags and names are reported before torch is imported.
"""

import sys
from collections.abc import Callable

from dassl.utils.errors import InputError
from dassl.utils.logger import Logger

_FOLDERS = ("clip", "dassl", "datasets", "experiments", "reporting", "tools", "trainers", "untrusted")


def report_errors(job: Callable[[], None], debug: bool) -> int:
    """Run `job` and return the command's exit code.

    The exit codes are:
    * 0: success.
    * 1: a file or weights can't be read or written, or a number (such as the loss) isn't finite.
    * 2: an input is wrong, or a package is missing.

    The error is printed as one line. If `debug` is True, the error is raised instead, so that its traceback is shown.
    """
    try:
        job()
    except ModuleNotFoundError as error:
        if debug or error.name is None or _is_ours(error.name):
            raise
        advice = "activate your environment, or let bash scripts/demo.sh make one"
        print(f"error: {sys.executable} has no {error.name}: {advice}", file=sys.stderr)
        return 2
    except _reported_errors() as error:
        if debug:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    finally:
        if isinstance(sys.stdout, Logger):
            sys.stdout.close()
            sys.stdout = sys.stdout.console
    return 0


def one_line(error: BaseException) -> str:
    """Return the error's message as one line."""
    return " ".join(str(error).split())


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _FOLDERS


def _reported_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors that are printed as one line.

    `clip.loading.WeightsError` is included only if its module has been imported. This function doesn't import the
    module, because the module imports torch.
    """
    types: list[type[Exception]] = [InputError, OSError, FloatingPointError]
    if "clip.loading" in sys.modules:
        types.append(sys.modules["clip.loading"].WeightsError)
    return tuple(types)
