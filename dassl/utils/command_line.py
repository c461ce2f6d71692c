"""`report_errors`: how every command line of the project reports its errors.

train.py, `experiments/`, `tools/` and the other scripts run their work through it. It must not import torch, since
errors in flags and names are reported before torch is imported.
"""

import sys
from collections.abc import Callable

from dassl.utils.errors import InputError
from dassl.utils.logger import Logger


def report_errors(job: Callable[[], None], debug: bool) -> int:
    """Run `job` and return the exit code: 0 for success, 2 for a wrong input, 1 for a failed file or number.

    Errors of these types are printed as one line. If `debug`, they are raised instead, so the traceback is shown.
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
    """The error's message on one line."""
    return " ".join(str(error).split())


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("clip", "dassl", "datasets", "experiments", "reporting", "tools", "trainers")


def _reported_errors() -> tuple[type[Exception], ...]:
    """Types of errors that are printed as one line.

    `clip.loading.WeightsError` is looked up among the imported modules, because importing it would import torch.
    """
    types: list[type[Exception]] = [InputError, OSError, FloatingPointError]
    if "clip.loading" in sys.modules:
        types.append(sys.modules["clip.loading"].WeightsError)
    return tuple(types)
