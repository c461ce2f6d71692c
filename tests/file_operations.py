"""Records the state of a folder before each file operation in it, as a kill at this moment would leave it."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_RENAMES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
#: Files that a run only appends to and never reads.
_LOGS = ("log.txt", "tensorboard", ".lock")

_recorder = None  # the recorder that is active; an audit hook can't be removed


class Recorder:
    """Copies a folder before each operation that changes one of its files, unless it is equal to the last copy."""

    def __init__(self, folder: Path, copies: Path):
        self.folder, self.copies, self.process = folder, copies, os.getpid()
        self.operations = 0
        self.last = None

    def before(self, event: str, args: tuple) -> None:
        if os.getpid() != self.process or not isinstance(args[0], str | os.PathLike):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITES):
            return
        path = Path(os.path.abspath(args[0]))
        if self.folder not in path.parents or path.relative_to(self.folder).parts[0] in _LOGS:
            return
        self.operations += 1
        state = contents(self.folder)
        if state != self.last:
            self.last = state
            write(state, self.copies / f"{self.operations:04d}")


def contents(folder: Path) -> dict[str, bytes]:
    """{relative path: content} of all files in a folder, except logs."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder) for path in paths}
    return {str(name): path.read_bytes() for path, name in names.items() if name.parts[0] not in _LOGS}


def write(state: dict[str, bytes], folder: Path) -> None:
    """Make a folder with these files, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in state.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(exist_ok=True)


def _hook(event: str, args: tuple) -> None:
    global _recorder
    if _recorder is not None and (event == "open" or event in _RENAMES):
        recorder, _recorder = _recorder, None  # the recorder's own operations don't count
        try:
            recorder.before(event, args)
        finally:
            _recorder = recorder


sys.addaudithook(_hook)


@contextlib.contextmanager
def recorded(folder: Path, copies: Path) -> Iterator[Recorder]:
    """Record the folder's states in this context, as numbered folders in `copies`."""
    global _recorder
    recorder = Recorder(folder.absolute(), copies)
    copies.mkdir()
    _recorder = recorder
    try:
        yield recorder
    finally:
        _recorder = None
