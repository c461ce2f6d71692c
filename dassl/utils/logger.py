"""`setup_logger` copies everything that is printed to a log file. Every run calls `setup_logger` at its start."""

import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

__all__ = ["Logger", "setup_logger"]


class Logger:
    """A text stream that writes to the console and to a file. All its other attributes come from the console."""

    def __init__(self, fpath: str | Path | None = None, console: TextIO | None = None):
        self.console = console or sys.stdout
        self.file: TextIO | None = None
        if fpath is not None:
            Path(fpath).parent.mkdir(parents=True, exist_ok=True)
            # Append: after a resume, log parsers must find the whole run in one file.
            # Line-buffered, so a killed process loses no line. Letters that aren't UTF-8 become escapes.
            self.file = open(fpath, "a", buffering=1, encoding="utf-8", errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write to the console and to the file. Returns the number of characters."""
        self.console.write(text)
        if self.file is not None:
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the console and the file."""
        self.console.flush()
        if self.file is not None:
            self.file.flush()

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


def setup_logger(output: str | Path | None = None) -> None:
    """Copy stdout to `<output>/log.txt`, or to the file `output` if its name ends in .txt or .log.

    Does nothing if `output` is None.
    """
    if output is None:
        return
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    console = sys.stdout
    if isinstance(console, Logger):
        console.close()
        console = console.console
    sys.stdout = Logger(path, console)
