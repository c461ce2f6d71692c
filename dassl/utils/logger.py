"""What is printed, printed into a file too."""

import sys
from pathlib import Path
from typing import TextIO

__all__ = ["Logger", "setup_logger"]


class Logger:
    """A text stream that writes to the console and to a file; whatever else is asked of it, the console answers."""

    def __init__(self, fpath: str | Path | None = None, console: TextIO | None = None):
        self.console = console or sys.stdout
        self.file: TextIO | None = None
        if fpath is not None:
            Path(fpath).parent.mkdir(parents=True, exist_ok=True)
            # Appended to: a resumed run's results must be in the file that log parsers read.
            self.file = open(fpath, "a", buffering=1)  # by line: a kill loses none

    def write(self, text: str) -> int:
        self.console.write(text)
        if self.file is not None:
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        """Close the file; the console stays open."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def __getattr__(self, name: str):
        return getattr(self.console, name)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def setup_logger(output: str | Path | None = None) -> None:
    """Send stdout to `<output>/log.txt` too (or to `output` itself if it ends in .txt or .log); None does nothing."""
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
