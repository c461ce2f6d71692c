"""Writes predictions as a table, CSV or JSON. Each format writes an image as soon as its prediction is there."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from inference.classifier import Prediction

_WIDEST = 60  # longest path and class name, in characters, that the table's columns are aligned for


class Writer(Protocol):
    """Writes predictions to a text stream."""

    def write(self, prediction: "Prediction") -> None: ...

    def close(self) -> None: ...


class Table:
    """One line per image: its path, then names with scores in percent."""

    def __init__(self, stream: TextIO, images: Sequence[str], classes: Sequence[str], topk: int):
        self.stream = stream
        self.path_width, self.name_width = (min(max(map(len, texts)), _WIDEST) for texts in (images, classes))

    def write(self, prediction: "Prediction") -> None:
        pairs = zip(prediction.classes, prediction.scores, strict=True)
        cells = [f"{name:<{self.name_width}} {100 * score:5.1f}%" for name, score in pairs]
        print(f"{prediction.image:<{self.path_width}}", *cells, sep="   ", file=self.stream, flush=True)

    def close(self) -> None:
        """The table has no end."""


class Csv:
    """One row per image: image, class_1, score_1, class_2, score_2 ... Scores are from 0 to 1."""

    def __init__(self, stream: TextIO, images: Sequence[str], classes: Sequence[str], topk: int):
        self.stream = stream
        ranks = range(1, min(topk, len(classes)) + 1)
        self._write_row(["image", *(column for rank in ranks for column in (f"class_{rank}", f"score_{rank}"))])

    def write(self, prediction: "Prediction") -> None:
        pairs = zip(prediction.classes, prediction.scores, strict=True)
        self._write_row([prediction.image, *(cell for name, score in pairs for cell in (name, f"{score:.6f}"))])

    def _write_row(self, cells: Sequence[str]) -> None:
        row = io.StringIO()
        csv.writer(row, lineterminator="\n").writerow(cells)
        print(row.getvalue(), end="", file=self.stream, flush=True)

    def close(self) -> None:
        """A CSV has no end."""


class Json:
    """A list with one object per image: {"image": ..., "predictions": [{"class": ..., "score": ...}, ...]}."""

    def __init__(self, stream: TextIO, images: Sequence[str], classes: Sequence[str], topk: int):
        self.stream = stream
        self.separator = "["

    def write(self, prediction: "Prediction") -> None:
        pairs = zip(prediction.classes, prediction.scores, strict=True)
        best = [{"class": name, "score": round(score, 6)} for name, score in pairs]
        content = json.dumps({"image": prediction.image, "predictions": best}, ensure_ascii=False)
        print(self.separator, content, sep="\n", end="", file=self.stream, flush=True)
        self.separator = ","

    def close(self) -> None:
        print("[]" if self.separator == "[" else "\n]", file=self.stream)


#: {name of a format: its writer}. A writer gets the stream, all paths, the class names and the number of best classes.
FORMATS: dict[str, Callable[[TextIO, Sequence[str], Sequence[str], int], Writer]] = {
    "table": Table,
    "csv": Csv,
    "json": Json,
}
