"""`Confidences` computes the calibration error and the top-5 accuracy from logits. The evaluators use it."""

import math
from collections.abc import Mapping
from typing import NotRequired, TypedDict

import numpy as np
import torch

#: Number of equal bins between 0 and 1 for the confidence, in the expected calibration error.
BINS = 15
#: An image counts for top-5 accuracy if its class is among this number of classes with the highest logits.
TOP = 5


class Scores(TypedDict):
    """Fields of `result.json`, in percent."""

    ece: NotRequired[float]  # expected calibration error; left out if a confidence isn't a number
    top5_accuracy: NotRequired[float]  # left out if a task has fewer than six classes


class Confidences:
    """Collects the confidence of each image, and whether the right class is among the five best ones.

    The confidence is the probability of the predicted class.
    """

    def __init__(self) -> None:
        self._confidences: list[float] = []
        self._in_top5: list[bool] = []

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: logits (batch, classes), which are -inf for classes of other tasks, and labels (batch,)."""
        self._confidences.extend(logits.float().softmax(-1).amax(-1).tolist())
        best = logits.topk(min(TOP, logits.shape[1])).indices  # (batch, 5)
        self._in_top5.extend((best == labels[:, None]).any(-1).tolist())

    def scores(self, hits: np.ndarray, tasks: np.ndarray, n_classes: Mapping[int, int]) -> Scores:
        """Return the scores. Each is the mean over the tasks.

        Args:
            hits: whether the predicted class of each image is right (n,).
            tasks: index of the task of each image (n,).
            n_classes: {index of a task that has images: number of its classes}.
        """
        confidences, in_top5 = np.array(self._confidences), np.array(self._in_top5)
        scores = Scores()
        ece = float(np.mean([calibration_error(confidences[tasks == task], hits[tasks == task]) for task in n_classes]))
        if math.isfinite(ece):
            scores["ece"] = ece
        if min(n_classes.values()) > TOP:
            scores["top5_accuracy"] = float(np.mean([100 * in_top5[tasks == task].mean() for task in n_classes]))
        return scores


def calibration_error(confidences: np.ndarray, hits: np.ndarray) -> float:
    """Return the expected calibration error (ECE) in percent, with 15 bins (Guo et al., arXiv 1706.04599, equation 3).

    It is the mean of |accuracy - mean confidence| over the bins, weighted by their numbers of images. Returns NaN if a
    confidence isn't a number.

    Args:
        confidences: probability of the predicted class of each image (n,).
        hits: whether the predicted class is right (n,).
    """
    if not np.isfinite(confidences).all():
        return math.nan
    bins = np.ceil(BINS * confidences).clip(1, BINS).astype(int)  # bin b: confidences in ((b - 1) / 15, b / 15]
    gaps = np.bincount(bins, weights=hits - confidences)  # of each bin: number of images * (accuracy - mean confidence)
    return min(100.0, float(100 * np.abs(gaps).sum() / len(hits)))


def results(scores: Scores) -> dict[str, float]:
    """Return the scores that exist, by name. Other entries of `scores` are left out."""
    found = {"ece": scores.get("ece"), "top5_accuracy": scores.get("top5_accuracy")}
    return {name: score for name, score in found.items() if score is not None}


def lines(scores: Scores) -> str:
    """Return a printed line for each score. No line contains "accuracy:", because log parsers search for this text."""
    titles = {"ece": "ece", "top5_accuracy": "top5"}
    return "".join(f"\n* {titles[name]}: {score:.1f}%" for name, score in results(scores).items())
