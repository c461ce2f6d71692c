"""`report_errors` runs the main function of a command, and prints an error as one line without a traceback.

train.py, `experiments/`, `tools/` and all other commands of the project call `report_errors`. This module must
not import torch, because errors in flags and names are reported before torch is imported.
"""

import sys
import threading
from collections.abc import Callable

from dassl import distributed
from dassl.utils.errors import InputError
from dassl.utils.files import FULL
from dassl.utils.logger import Logger
from dassl.utils.stopping import STOPPED, Terminated, exit_code, killed_worker, raise_when_terminated

_FOLDERS = ("clip", "dassl", "datasets", "experiments", "reporting", "tools", "trainers", "untrusted")


def report_errors(job: Callable[[], None], debug: bool) -> int:
    """Run `job` and return the command's exit code.

    The exit codes are:
    * 0: success.
    * 1: a file or weights can't be read or written, a number (such as the loss) isn't finite, or a process was killed.
    * 2: an input is wrong, or a package is missing.
    * 130 or 143: the command was stopped by Ctrl-C or by SIGTERM.

    The error is printed as one line. If `debug` is True, the error is raised instead, so that its traceback is shown.
    """
    threading.excepthook = _report_thread
    try:
        with raise_when_terminated(), distributed.note_failure():
            job()
    except ModuleNotFoundError as error:
        if debug or error.name is None or _is_ours(error.name):
            raise
        advice = "activate your environment, or let bash scripts/demo.sh make one"
        _print(f"{sys.executable} has no {error.name}: {advice}")
        return 2
    except _reported_errors() as error:
        if debug:
            raise
        _print(one_line(error))
        return 2 if isinstance(error, InputError) else 1
    except (KeyboardInterrupt, Terminated) as error:
        code = exit_code(error)
        if reason := distributed.reason_to_stop(f"stopped by {STOPPED[code]}"):
            print(f"{reason}. Repeat the command to resume", file=sys.stderr)
        return code
    except distributed.LostProcessError as error:
        if reason := distributed.reason_to_stop(f"error: the processes lost their connection ({one_line(error)})"):
            print(f"{reason}. Repeat the command to resume", file=sys.stderr)
        if debug:
            raise
        return 1
    except RuntimeError as error:
        if debug or not killed_worker(error):
            raise
        _print(
            f"a process that loads images was killed, perhaps because memory was full ({one_line(error)}). "
            "Lower DATALOADER.NUM_WORKERS or free memory, then repeat the command to resume"
        )
        return 1
    finally:
        if isinstance(sys.stdout, Logger):
            sys.stdout.close()
            sys.stdout = sys.stdout.console
    return 0


def _print(message: str) -> None:
    """Print an error message, unless another process of the run has printed one."""
    if distributed.prints_error():
        print(f"error: {distributed.label()}{message}", file=sys.stderr)


def _report_thread(args: threading.ExceptHookArgs) -> None:
    """Print the traceback of an error in a thread, unless the disk is full. The main thread reports a full disk."""
    error = args.exc_value
    if not (isinstance(error, OSError) and error.errno in FULL):
        threading.__excepthook__(args)


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
