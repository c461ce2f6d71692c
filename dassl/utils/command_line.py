"""`report_errors` runs the main function of a command, and prints an error as one line without a traceback.

train.py, `experiments/`, `tools/` and all other commands of the project call `report_errors`. This module must
not import torch, because errors in flags and names are reported before torch is imported.
"""

import io
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from dassl import distributed
from dassl.utils.errors import InputError
from dassl.utils.files import FULL
from dassl.utils.logger import Logger
from dassl.utils.stopping import STOPPED, Terminated, exit_code, killed_worker, raise_when_terminated

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("clip", "dassl", "datasets", "experiments", "inference", "reporting", "tools", "trainers", "untrusted")


def report_errors(job: Callable[[], None], debug: bool) -> int:
    """Run `job` and return the command's exit code.

    The exit codes are:
    * 0: success.
    * 1: a file or weights can't be read or written, a number (such as the loss) isn't finite, memory is full, or a
      process was killed.
    * 2: an input is wrong, or a package is missing.
    * 3: an unexpected error. The traceback is in the run's log.
    * 130 or 143: the command was stopped by Ctrl-C or by SIGTERM.

    The error is printed as one line. If `debug` is True, the error is raised instead, so that its traceback is shown.
    """
    threading.excepthook = _report_thread
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A class name or path may contain letters that the terminal's encoding lacks. Print them as escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with raise_when_terminated(), distributed.note_failure():
            job()
    except (KeyboardInterrupt, Terminated) as error:
        code = exit_code(error)
        _print_resumable(f"stopped by {STOPPED[code]}")
        return code
    except Exception as error:
        if debug and not isinstance(error, distributed.LostProcessError):
            raise
        return _report(error)
    finally:
        if isinstance(sys.stdout, Logger):
            sys.stdout.close()
            sys.stdout = sys.stdout.console
    return 0


def _report(error: Exception) -> int:
    """Print an error as one line, and return the exit code for it."""
    if isinstance(error, distributed.LostProcessError):
        _print_resumable(f"error: the processes lost their connection ({one_line(error)})")
        return 1
    if isinstance(error, ModuleNotFoundError) and error.name is not None and not _is_ours(error.name):
        advice = "activate your environment, or let bash scripts/demo.sh make one"
        _print(f"{sys.executable} has no {error.name}: {advice}")
        return 2
    if isinstance(error, ImportError) and (other := _foreign_package(error.name or "")):
        name = (error.name or "").partition(".")[0]
        _print(f"`{name}` was imported from {other}, not from this project. Import the project's modules first")
        return 2
    if isinstance(error, _reported_errors()):
        _print(one_line(error))
        return 2 if isinstance(error, InputError) else 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        reason = one_line(error) or "the memory of this machine is full"
        _print(f"not enough memory: {reason}. Lower the batch sizes or DATALOADER.DECODED_GB")
        return 1
    if killed_worker(error):
        _print(
            f"a process that loads images was killed, perhaps because memory was full ({one_line(error)}). "
            "Lower DATALOADER.NUM_WORKERS or free memory, then repeat the command to resume"
        )
        return 1
    if isinstance(sys.stdout, Logger) and sys.stdout.file is not None:
        sys.stdout.file.write("".join(traceback.format_exception(error)))
    text = f"{type(error).__name__}: {one_line(error)}"
    print(f"internal error: {distributed.label()}{text}; --debug shows the traceback", file=sys.stderr)
    return 3


def _print(message: str) -> None:
    """Print an error message, unless another process of the run has printed one."""
    if distributed.prints_error():
        print(f"error: {distributed.label()}{message}", file=sys.stderr)


def _print_resumable(message: str) -> None:
    """Print why the run stopped, unless another process of the run has printed it."""
    if reason := distributed.reason_to_stop(message):
        print(f"{reason}. Repeat the command to resume", file=sys.stderr)


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


def _foreign_package(module: str) -> str:
    """Return the file of a package that hides this project's package of the same name, or "" if none does."""
    name = module.partition(".")[0]
    file = vars(sys.modules[name]).get("__file__") if name in sys.modules else None
    if not _is_ours(name) or file is None:
        return ""
    return "" if Path(file).resolve().parent == _ROOT / name else str(file)


def _reported_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors that are printed as one line.

    `clip.loading.WeightsError` is included only if its module has been imported. This function doesn't import the
    module, because the module imports torch.
    """
    types: list[type[Exception]] = [InputError, OSError, FloatingPointError]
    if "clip.loading" in sys.modules:
        types.append(sys.modules["clip.loading"].WeightsError)
    return tuple(types)
