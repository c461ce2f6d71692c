"""What the web page of `predict.py --serve` does: reads uploaded images, classifies them, and uses other class names.

`inference/page_server.py` shows the results in a browser. This module doesn't import Gradio, so its functions are
tested without it. No text that it returns contains a path of this machine, because a browser may run elsewhere.
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct
from PIL import Image

from dassl.engine.formats import read_result
from dassl.engine.run_folder import RESULT, dataset_label
from dassl.utils import InputError, read_image
from dassl.utils.errors import ClassNameError
from inference.classifier import Classifier, Prediction
from inference.record import ExportedRecord, checked_classes
from trainers.common.options import run_config

# ---- limits ----

MAX_IMAGES = 20  # images that are classified at once
MAX_BYTES = 16 * 2**20  # of an image file
MAX_TOTAL = 64 * 2**20  # of all image files that are classified at once
MAX_PIXELS = 25_000_000  # width x height of an image
MAX_NAMES = 1000  # class names that a user enters
MAX_NAME_LENGTH = 100  # characters of a class name that a user enters
MAX_FILE_NAME = 80  # characters of a file name that are shown
MAX_TOPK = 20
SIDE = 320  # of a thumbnail, in pixels


# ---- uploads ----


class SentFile(Struct):
    """An image file as the browser sends it. msgspec decodes `data` from base64."""

    name: str
    size: int = 0
    data: bytes | None = None  # None: the browser didn't send the file, because it is too large


class Sent(Struct):
    """What the browser sends when a user drops images."""

    files: list[SentFile]
    more: int = 0  # number of further files that the browser didn't send


class Upload(NamedTuple):
    """An image to classify. `read` decodes it, or raises InputError."""

    name: str  # file name without a folder; "" for an example
    read: Callable[[], Image.Image]


def uploads(message: object) -> list[Upload | InputError]:
    """Return the images in a message of the browser, with an error in place of each file that is refused.

    Raises:
        InputError: the message doesn't have the form of `Sent`.
    """
    try:
        sent = msgspec.convert(message, Sent)
    except msgspec.ValidationError as error:
        raise InputError(f"the page sent a message that can't be read: {error}") from error
    accepted: list[Upload | InputError] = []
    total = 0
    for file in sent.files[:MAX_IMAGES]:
        name = shown_name(file.name)
        size = max(file.size, len(file.data or b""))
        if size > MAX_BYTES:
            accepted.append(InputError(f"{name} has {megabytes(size)}, more than {megabytes(MAX_BYTES)}"))
        elif total + size > MAX_TOTAL:
            accepted.append(InputError(f"{name} is left out: all images together have over {megabytes(MAX_TOTAL)}"))
        elif not file.data:
            accepted.append(InputError(f"can't read the image {name}: the file is empty or couldn't be sent"))
        else:
            total += size
            accepted.append(Upload(name, _reader(name, file.data)))
    if left := len(sent.files[MAX_IMAGES:]) + max(sent.more, 0):
        accepted.append(InputError(f"{left} more images are left out: at most {MAX_IMAGES} are classified at once"))
    return accepted


def shown_name(name: str) -> str:
    """Return a file name without its folder, on one line and shortened."""
    base = " ".join(name.replace("\\", "/").rpartition("/")[2].split()) or "image"
    return base if len(base) <= MAX_FILE_NAME else f"{base[: MAX_FILE_NAME - 1]}…"


def megabytes(size: int) -> str:
    """Return a number of bytes as text, such as "16 MB"."""
    return f"{size / 2**20:.3g} MB"


def _reader(name: str, content: bytes) -> Callable[[], Image.Image]:
    return lambda: read_image(io.BytesIO(content), name, MAX_PIXELS)


# ---- class names ----


def entered_names(text: str) -> list[str]:
    """Return the class names that a user entered, one per line; [] if there is none. Empty lines are skipped.

    Raises:
        InputError: there are too many names, a name is too long, a name occurs twice, or there is only one.
    """
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        return []
    if len(names) > MAX_NAMES:
        raise InputError(f"there are {len(names)} class names, but at most {MAX_NAMES} can be used")
    if len(names) == 1:
        raise InputError("there is only one class name. Enter at least two, one per line")
    if long := next((name for name in names if len(name) > MAX_NAME_LENGTH), None):
        raise InputError(f"the class name {long[:40]}… has {len(long)} characters, more than {MAX_NAME_LENGTH}")
    return checked_classes(names)


# ---- runs ----


class ServedRun:
    """A run or an exported classifier on the page.

    Attributes:
        classifier: the classifier with the run's own classes.
        title: trainer and data set; `load_runs` adds a number if two runs have the same.
        details: CLIP, shots, seed and accuracy, as far as they are known.
        shown_names: the class names to edit, one per line; "" if the run's classes belong to several tasks.
        fixed: why other class names can't be used; "" if they can.
    """

    def __init__(self, source: str, names: Sequence[str] | None = None, device: str | None = None):
        """Load the classifier. Arguments and errors as in `Classifier.load`.

        Args:
            names: class names that the page offers at first. None: the run's.
        """
        self.source, self._device = source, device
        self.classifier = Classifier.load(source, device=device)
        self.title, self.details = _description(source, self.classifier)
        self.fixed = ""
        if self.classifier.classes_are_fixed:
            record = self.classifier.record
            exported = isinstance(record, ExportedRecord)
            self.fixed = f"{'An exported classifier' if exported else record.trainer} can't use other class names."
        if names is not None and self.fixed:
            raise InputError(f"{source}: {self.fixed} Leave out --classes")
        own = [] if len(self.classifier.record.tasks) > 1 else self.classifier.classes
        self.shown_names = "\n".join(own if names is None else entered_names("\n".join(names)))
        self._renamed: tuple[list[str], Classifier] | None = None  # the last names that a user entered

    def with_names(self, text: str) -> Classifier:
        """Return a classifier for the names that a user entered. If there are none, use those of `classifier`.

        Raises:
            InputError: the names can't be used. The message contains no path.
        """
        if self.fixed or text.splitlines() == self.classifier.classes:  # they may exceed the limits for entered names
            return self.classifier
        names = entered_names(text)
        if not names:
            return self.classifier
        if self._renamed is None or self._renamed[0] != names:
            self._renamed = None  # frees the memory of the last one
            try:
                self._renamed = names, Classifier.load(self.source, names, self._device)
            except ClassNameError:
                raise
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)  # this message may contain paths
                raise InputError(f"{self.title} can't use these class names. The terminal shows the reason") from error
        return self._renamed[1]


def load_runs(sources: Sequence[str], names: Sequence[str] | None = None, device: str | None = None) -> list[ServedRun]:
    """Load runs with different titles. Arguments and errors as in `ServedRun`."""
    runs = [ServedRun(source, names, device) for source in sources]
    titles = [run.title for run in runs]
    for number, run in enumerate(runs, 1):
        if titles.count(run.title) > 1:
            run.title = f"{number}. {run.title}"
    return runs


def _description(source: str, classifier: Classifier) -> tuple[str, str]:
    """Return the title and the details of a run or an exported classifier."""
    record = classifier.record
    if isinstance(record, ExportedRecord):
        dataset, parts, accuracy = record.dataset, [record.clip, "exported"], record.accuracy
    else:
        folder = Path(source).expanduser()
        cfg = run_config(folder)
        dataset = dataset_label(cfg)
        part, shots = cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS
        parts = [record.clip, f"{part} classes" if part != "all" else "", f"{shots} shots" if shots > 0 else ""]
        parts.append(f"seed {cfg.SEED}")
        accuracy = read_result(folder).accuracy if (folder / RESULT).is_file() else None
    if accuracy is not None:
        parts.append(f"{accuracy:.1f}% accuracy in its test")
    return f"{record.trainer} on {dataset}", ", ".join(part for part in parts if part)


# ---- classifying ----


class Classified(NamedTuple):
    """An image with the answers of all runs."""

    name: str
    thumbnail: Image.Image
    answers: list[Prediction]  # in the order of the runs


def classify(
    runs: Sequence[ServedRun], images: Sequence[Upload | InputError], names: Sequence[str], topk: int
) -> Iterator[Classified | InputError]:
    """Yield the answers for each image, or the error if it can't be read.

    Only one image is in memory at a time, because a decoded image may need 75 MB.

    Args:
        names: for each run, the class names that a user entered, one per line. "": the run's.
        topk: number of classes in an answer.

    Raises:
        InputError: class names can't be used. The message contains no path.
    """
    classifiers = [run.with_names(text) for run, text in zip(runs, names, strict=True)]
    topk = max(1, min(topk, MAX_TOPK))
    for upload in images:
        if isinstance(upload, InputError):
            yield upload
            continue
        try:
            image = upload.read()
        except InputError as error:
            yield error
            continue
        answers = [classifier.predict(image, topk)[0] for classifier in classifiers]
        image.thumbnail((SIDE, SIDE))
        yield Classified(upload.name, image, answers)
