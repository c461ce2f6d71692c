"""Finds examples for the web page: test images that a run classified right or wrong, from its predictions.npz."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct
from PIL import Image
from scipy.special import softmax

from dassl.engine.formats import read_predictions
from dassl.engine.results import PREDICTIONS
from dassl.utils import InputError, cache_folder, read_image
from inference.page import MAX_PIXELS, SIDE, ServedRun, Upload
from inference.record import RunRecord
from trainers.common.options import run_config

EACH = 6  # largest number of right and of wrong examples


class Example(NamedTuple):
    """A test image of a run."""

    path: Path
    label: str  # its class
    predicted: str  # the class with the highest score
    score: float  # the probability of the predicted class, from 0 to 1

    @property
    def is_right(self) -> bool:
        return self.label == self.predicted

    def upload(self) -> Upload:
        """Return the image to classify. The error of an image that can't be read doesn't name its path."""
        return Upload("", lambda: read_image(self.path, "of the example", MAX_PIXELS))


class Chosen(Struct):
    """What the browser sends when a user clicks an example."""

    index: Annotated[int, Meta(ge=0)]


class Gallery(NamedTuple):
    """The examples of a run."""

    examples: list[Example]
    thumbnails: list[Image.Image]  # of the examples
    reason: str = ""  # why there are no examples

    def chosen(self, message: object) -> list[Upload | InputError]:
        """Return the example in a message of the browser. Raises InputError if there is no such example."""
        try:
            index = msgspec.convert(message, Chosen).index
        except msgspec.ValidationError as error:
            raise InputError(f"the page sent a message that can't be read: {error}") from error
        if index >= len(self.examples):
            raise InputError(f"there is no example {index}")
        return [self.examples[index].upload()]


def gallery_of(run: ServedRun) -> Gallery:
    """Return the examples of a run. Images that can't be read are left out."""
    record = run.classifier.record
    if not isinstance(record, RunRecord):
        return Gallery([], [], "an exported classifier has no test images")
    gallery = Gallery([], [])
    try:
        for example in find_examples(run.source, record):
            with contextlib.suppress(InputError):
                thumbnail = example.upload().read()
                thumbnail.thumbnail((SIDE, SIDE))
                gallery.thumbnails.append(thumbnail)
                gallery.examples.append(example)
    except InputError as error:
        return Gallery([], [], str(error))
    return gallery if gallery.examples else Gallery([], [], "the run's test images can't be read")


class Tested(NamedTuple):
    """The content of predictions.npz that examples need. All arrays have one row for each test image."""

    paths: list[str]  # relative to the folder of the data
    labels: np.ndarray  # (n_images,), class numbers
    predicted: np.ndarray  # (n_images,), class numbers
    scores: np.ndarray  # (n_images,), probabilities of the predicted classes


def find_examples(source: str, record: RunRecord) -> list[Example]:
    """Return right and wrong test images of the run in the folder `source`, first the wrong ones.

    Raises:
        InputError: the run saved no predictions, or its test images aren't there any more. The message contains no
            path.
    """
    folder = Path(source).expanduser()
    if not (folder / PREDICTIONS).is_file():
        raise InputError(f"the run has no {PREDICTIONS}. The option TEST.SAVE_PREDICTIONS True writes it")
    tested = _read(folder, len(record.labels))
    folders = _data_folders(folder, record)
    base = next((base for base in folders if any((base / path).is_file() for path in tested.paths)), None)
    if base is None:
        raise InputError("the run's test images aren't where they were when the run was tested")
    is_right = tested.labels == tested.predicted
    return [
        Example(
            base / tested.paths[n],
            record.labels[tested.labels[n]],
            record.labels[tested.predicted[n]],
            float(tested.scores[n]),
        )
        for rows in (np.flatnonzero(~is_right), np.flatnonzero(is_right))
        for n in _spread(rows)
        if (base / tested.paths[n]).is_file()
    ]


def _spread(rows: np.ndarray) -> Sequence[int]:
    """Return at most `EACH` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(EACH, len(rows))).astype(int)].tolist()


def _read(folder: Path, n_classes: int) -> Tested:
    """Read predictions.npz. Raises InputError if it is damaged or has other classes than the run."""
    try:
        logits, labels = read_predictions(folder)  # (n_images, n_classes), see `Predictions`
        with np.load(folder / PREDICTIONS, allow_pickle=False) as content:
            paths = [str(path) for path in content["impath"]]
    except (InputError, OSError, LookupError, ValueError) as error:
        raise InputError(f"{PREDICTIONS} is damaged") from error
    if len(paths) != len(logits) or logits.shape[1] != n_classes:
        raise InputError(f"{PREDICTIONS} doesn't fit to the classes of the run")
    if labels.ndim == 2:  # several tasks: -1 marks the classes of other tasks
        logits, labels = np.where(labels < 0, -np.inf, logits), labels.argmax(1)
    scores = softmax(logits, axis=1)
    return Tested(paths, labels, scores.argmax(1), scores.max(1))


def _data_folders(run: Path, record: RunRecord) -> Iterator[Path]:
    """Yield the folders that the paths in predictions.npz may be relative to."""
    cfg = run_config(run).DATASET
    for text in filter(None, (cfg.PATH, cfg.ROOT)):
        path = Path(record.working_folder) / Path(text).expanduser()
        yield path.parent if path.is_file() else path
    yield cache_folder()  # of data sets that are rendered here
