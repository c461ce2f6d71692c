"""Describes the files of a run that other commands read, such as result.json, metrics.jsonl and predictions.npz.

Reports, repetitions and pictures read the files with these descriptions, because a file may be damaged, come from an
older version, or be written by hand. Unknown keys are ignored. This module imports neither torch nor NumPy.
"""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from dassl.config import Int64
from dassl.utils.errors import InputError
from dassl.utils.typed import one_place, read_json_as

if TYPE_CHECKING:
    import numpy as np

Percent = Annotated[float, Meta(ge=0, le=100)]
#: A path. Python can't open a file whose name contains a null character.
PathText = Annotated[str, Meta(pattern="^[^\0]*$")]
_Threads = Annotated[int, Meta(ge=1, le=10_000)]
_Loss = Annotated[float, Meta(ge=-1e30, le=1e30)]


class RunFields(Struct, kw_only=True):
    """The fields of result.json that identify a run. They are known before the run."""

    dataset: str
    trainer: str
    seed: Int64
    trained_on: str | None = None  # the training data set; "" if the method learns nothing, None if unknown
    test_only: bool = False
    subsample_classes: Literal["all", "base", "new"] = "all"
    backbone: str | None = None
    config: str | None = ""
    protocol: str = ""
    shots: Int64 = -1


class Result(RunFields, kw_only=True):
    """The fields of result.json. Evaluators of third parties may add others."""

    accuracy: Percent
    split: Literal["test", "val"] = "test"
    macro_f1: Percent | None = None
    ece: Percent | None = None  # expected calibration error; older results lack it
    top5_accuracy: Percent | None = None  # only if there are at least six classes; older results lack it
    options: dict[str, Any] = {}  # the trainer's options
    per_class: dict[str, Percent] = {}  # class name -> accuracy
    threads: _Threads | None = None
    text_chunk: Annotated[int, Meta(ge=0, le=2**40)] = 0
    versions: dict[str, str] = {}


class Metrics(Struct):
    """A line of metrics.jsonl: the values of one training batch, or the results of a validation."""

    loss: _Loss | None = None
    split: str = "train"  # only the lines of validations name their split


class EpochScores(Struct, omit_defaults=True):
    """An entry of epochs.json: the accuracies on test images after an epoch, for each group of classes."""

    epoch: Annotated[int, Meta(ge=1)]
    base: Percent | None = None
    new: Percent | None = None
    all: Percent | None = None


class PlannedFields(Struct, kw_only=True):
    """A planned run in sweep.json."""

    folder: PathText  # relative to the sweep's folder
    state: Literal["to do", "cut off", "finished", "failed"]
    error: str = ""
    facts: RunFields | None = None
    fields: RunFields | None = None  # some older versions wrote this key instead of `facts`


class SweepFile(Struct):
    """The content of sweep.json."""

    runs: list[PlannedFields]


class Predictions(NamedTuple):
    """The content of predictions.npz."""

    logits: "np.ndarray"  # (n_images, n_classes)
    label: "np.ndarray"  # (n_images,), or (n_images, n_classes) for several tasks


def read_result(folder: Path) -> Result:
    """Return the result of the run in `folder`. Raises InputError if result.json isn't a result."""
    return read_json_as(folder / "result.json", Result, "result")


def read_losses(folder: Path) -> list[float]:
    """Return the training loss of every batch of a run, or [] if the run has no metrics.jsonl.

    Raises:
        InputError: a line isn't a batch's values.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    decoder = msgspec.json.Decoder(Metrics)
    try:
        losses = [line.loss for line in decoder.decode_lines(path.read_bytes()) if line.split == "train"]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has a damaged line: {one_place(error)}") from error
    if None in losses:
        raise InputError(f"{path} has a line without a loss")
    return [loss for loss in losses if loss is not None]


def read_epochs(folder: Path) -> list[EpochScores]:
    """Return the accuracies after each epoch of a run, or [] if the run has no epochs.json.

    Raises:
        InputError: epochs.json isn't a list of accuracies, or its epochs don't increase.
    """
    path = folder / "epochs.json"
    scores = read_json_as(path, list[EpochScores], "list of accuracies by epoch") if path.is_file() else []
    if any(one.epoch >= next_one.epoch for one, next_one in itertools.pairwise(scores)):
        raise InputError(f"{path} is damaged: its epochs don't increase")
    return scores


def read_predictions(folder: Path) -> Predictions:
    """Return the predictions of the run in `folder`.

    Raises:
        InputError: predictions.npz is damaged, or its arrays don't fit together.
    """
    from dassl.utils.arrays import read_arrays

    path = folder / "predictions.npz"
    logits, label = read_arrays(path, {"logits": (2,), "label": (1, 2)})
    if len(logits) != len(label) or not logits.size or (label.ndim == 2 and label.shape != logits.shape):
        raise InputError(f"{path}: the shapes of logits {logits.shape} and label {label.shape} don't fit together")
    if label.dtype.kind not in "iu" or (label.ndim == 1 and not 0 <= label.min() <= label.max() < logits.shape[1]):
        raise InputError(f"{path}: label must hold class numbers from 0 to {logits.shape[1] - 1}")
    return Predictions(logits, label)
