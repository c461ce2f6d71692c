"""The log of training metrics, `metrics.jsonl`. `SimpleTrainer` writes a line of JSON for each training batch.

A validation writes a line with the entry `"split": "val"`. Lines of training batches don't have this entry.

Every line ends with the CRC-32 of its other values, so that a line that was damaged later isn't taken for a result.
"""

import json
import os
import zlib
from collections import Counter
from pathlib import Path

from dassl.utils.files import report_full_disk, write_text

NAME = "metrics.jsonl"
_CHECKSUM = "crc32"  # last entry of each line
Values = dict[str, float | str]


class MetricsLog:
    """Appends one line of JSON per training batch or validation to `metrics.jsonl`.

    A resumed run repeats the epoch in which it was killed, so the old lines of that epoch are deleted first. Damaged
    lines are deleted too, with a warning.

    Args:
        folder: the output folder. None: the lines are discarded, because another process writes them.
        start_epoch: index of the first epoch of this process, from 0.
        validations: number of validations before this process. If the file has fewer, a warning is printed.
    """

    def __init__(self, folder: str | Path | None, start_epoch: int, validations: int = 0):
        self.is_discarded = folder is None
        if folder is None:
            return
        self.path, self.start_epoch = Path(folder) / NAME, start_epoch
        before = self.path.read_bytes() if self.path.is_file() else None
        lines, damaged = _split(before or b"")
        kept = [(line, values) for line, values in lines if int(values["epoch"]) <= start_epoch]
        #: number of batches that are logged for each epoch
        self.batches = Counter(int(values["epoch"]) for _, values in kept if "split" not in values)
        found = len(kept) - self.batches.total()
        if found < validations:
            print(f"Warning: {self.path} lacks {validations - found} of {validations} validations")
        if damaged and start_epoch:
            print(f"Warning: dropped {damaged} damaged lines of {self.path}")
        text = "".join(line + "\n" for line, _ in kept)
        if text.encode() != before:
            write_text(text, self.path)

    def warn_of_missing_lines(self, num_batches: int) -> None:
        """Print a warning if there aren't `num_batches` lines for each epoch that was trained before this process."""
        if self.is_discarded:
            return
        lost = [epoch for epoch in range(1, self.start_epoch + 1) if self.batches[epoch] != num_batches]
        if lost:
            print(f"Warning: {self.path} lacks batches of the epochs {', '.join(map(str, lost))}")
        self.start_epoch = 0  # warn only once

    def write(self, **values: float | str) -> None:
        """Append a line with the values of one batch or validation."""
        if self.is_discarded:
            return
        line = json.dumps(values | {_CHECKSUM: _crc(values)})
        with report_full_disk(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def sync(self) -> None:
        """Wait until the disk has stored all lines. Called before a checkpoint is saved."""
        if self.is_discarded:
            return
        with report_full_disk(self.path), self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())


def _crc(values: Values) -> int:
    return zlib.crc32(json.dumps(values).encode())


def _split(content: bytes) -> tuple[list[tuple[str, Values]], int]:
    """Return the undamaged lines, each with its values, and the number of damaged lines.

    An incomplete last line isn't counted as damaged, because a kill can leave it in the last epoch.
    """
    good, damaged = [], 0
    is_sealed = f'"{_CHECKSUM}"'.encode() in content  # older versions of the project wrote no checksums
    *lines, last = content.split(b"\n")
    for number, line in enumerate([*lines, last] if last else lines):
        try:
            text = line.decode()
            values = json.loads(text)
            found = dict(values)
            if is_sealed and found.pop(_CHECKSUM) != _crc(found):
                raise ValueError
            int(values["epoch"])
        except (ValueError, KeyError, TypeError):
            damaged += number < len(lines)
        else:
            good.append((text, values))
    return good, damaged
