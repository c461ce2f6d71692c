"""`setup_logger` copies everything that is printed to a log file. Every run calls `setup_logger` at its start.

`print_details` writes what only the log file needs, such as the whole config.
"""

import sys
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TextIO

from dassl import distributed
from dassl.utils.files import report_full_disk

__all__ = ["Logger", "print_details", "print_step", "setup_logger"]


class Logger:
    """A text stream that writes to the console and to a file. All its other attributes come from the console.

    If the file can't be written, for example because the disk is full, the error is raised once. Afterwards, the stream
    writes only to the console.

    Attributes:
        is_verbose: True: the console also shows the details that `print_details` and `print_step` write.
    """

    def __init__(self, fpath: str | Path | None = None, console: TextIO | None = None, is_verbose: bool = False):
        self.console = console or sys.stdout
        self.is_verbose = is_verbose
        self.path = fpath
        self.file: TextIO | None = None
        if fpath is not None:
            with report_full_disk(fpath):
                Path(fpath).parent.mkdir(parents=True, exist_ok=True)
                # Append: after a resume, log parsers must find the whole run in one file. Without a buffer, a killed
                # process loses no line, and closing the file can't fail.
                raw = open(fpath, "ab", buffering=0)
            self.file = TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)

    def write(self, text: str) -> int:
        """Write to the console and to the file. Returns the number of characters.

        Raises DiskFullError, but only once, if the disk is full.
        """
        self.console.write(text)
        self.write_file(text)
        return len(text)

    def write_file(self, text: str) -> None:
        """Write only to the file. Raises DiskFullError, but only once, if the disk is full."""
        if self.file is not None and self.path is not None:
            try:
                with report_full_disk(self.path):
                    self.file.write(text)
            except OSError:
                self.close()
                raise

    def flush(self) -> None:
        """Flush the console. The file has no buffer."""
        self.console.flush()

    def close(self) -> None:
        """Close the file. The console stays open."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.console, name)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def setup_logger(output: str | Path | None = None, is_verbose: bool = False) -> None:
    """Copy stdout to `<output>/log.txt`, or to the file `output` if its name ends in .txt or .log.

    Does nothing if `output` is None. If there are several processes, only the main process writes the log.

    Args:
        is_verbose: show the details on the console, too.
    """
    if output is None or not distributed.is_main():
        return
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    console = sys.stdout
    if isinstance(console, Logger):
        console.close()
        console = console.console
    sys.stdout = Logger(path, console, is_verbose)


def print_details(text: str) -> None:
    """Write a text to the log file. Without a log file, or if the log is verbose, print it."""
    log = sys.stdout
    if isinstance(log, Logger) and log.file is not None and not log.is_verbose:
        log.write_file(text + "\n")
    else:
        print(text)


def print_step(text: str) -> None:
    """Write the line of a training step to the log file.

    Also print it, unless the output is a terminal: there, a progress bar shows the same values. Programs that read the
    output need the line.
    """
    if sys.stdout.isatty() and sys.stderr.isatty():
        print_details(text)
    else:
        print(text)
