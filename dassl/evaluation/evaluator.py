"""`Classification` computes scores from logits, and prints them in the format that log parsers expect.

`SimpleTrainer.test` calls `reset`, then `process` for each batch, then `evaluate`. `write_result` calls `record` to get
the scores for `result.json`. TEST.EVALUATOR names the evaluator. A third-party evaluator may omit `record`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.evaluation import confidence
from dassl.utils.errors import InputError
from dassl.utils.plugins import find
from dassl.utils.registry import Registry
from dassl.utils.torchtools import save_sealed

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: object) -> "EvaluatorBase":
    """Return the evaluator that TEST.EVALUATOR names. `kwargs` are passed to its class.

    Raises:
        InputError: there is no such evaluator.
    """
    return find(EVALUATOR_REGISTRY, "evaluator (TEST.EVALUATOR)", cfg.TEST.EVALUATOR)(cfg, **kwargs)


def macro_f1(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Return the mean F1 in percent over the classes that occur in `y_true`. Both arrays are labels (n,)."""
    from sklearn.metrics import f1_score  # imported here because the import takes 2 s

    return float(100 * f1_score(y_true, y_pred, average="macro", labels=np.unique(y_true), zero_division=0))


class EvaluatorBase:
    """The base class of evaluators. Call `reset`, then `process` for each batch, then `evaluate`."""

    #: Logits (batch, classes) and labels of each batch. Both are empty unless TEST.SAVE_PREDICTIONS is set.
    logits: Sequence[torch.Tensor] = ()
    labels: Sequence[torch.Tensor] = ()

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg

    def reset(self) -> None:
        """Discard all batches that `process` has added."""
        raise TypeError(f"{type(self).__name__} must define reset")

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch: the model's output (batch, classes) and the labels (batch,)."""
        raise TypeError(f"{type(self).__name__} must define process")

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the results, and return them by name. The first result is used to compare models."""
        raise TypeError(f"{type(self).__name__} must define evaluate")

    def record(self) -> Mapping[str, object]:
        """Return the results for `result.json`. By default, these are the results of `evaluate`."""
        return {name: float(value) for name, value in self.evaluate().items()}


class ClassificationRecord(confidence.Scores):
    """The fields of `result.json` that come from `Classification`. Scores are in percent."""

    accuracy: float
    macro_f1: float
    n_total: int
    n_correct: int
    per_class: dict[str, float]  # class name -> accuracy


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Computes accuracy, error rate, macro F1, calibration error and top-5 accuracy, in percent.

    Macro F1 is the mean of the F1 scores of all classes that occur in the labels. If TEST.PER_CLASS_RESULT is set, the
    accuracy of each class is printed, too. If TEST.COMPUTE_CMAT is set, the confusion matrix is saved as `cmat.pt`.
    Each row of the confusion matrix is normalised to a sum of 1.

    Args:
        cfg: the config.
        lab2cname: mapping from label to class name.
        kwargs: ignored, because only other evaluators use these arguments.
    """

    def __init__(self, cfg: CfgNode, lab2cname: Mapping[int, str] | None = None, **kwargs: object):
        super().__init__(cfg)
        self._lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._confidences, self._n_classes = confidence.Confidences(), 0
        self.logits: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        if gt.ndim != 1:
            raise InputError(
                "TEST.EVALUATOR Classification needs one label for each image. Use ClassificationMT for several tasks"
            )
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(mo.argmax(1).tolist())
        self._confidences.add(mo, gt)
        self._n_classes = mo.shape[1]
        if self.cfg.TEST.SAVE_PREDICTIONS:
            self.logits.append(mo.float().cpu())
            self.labels.append(gt.cpu())

    def record(self) -> ClassificationRecord:
        """Return the scores for `result.json`.

        Raises:
            InputError: no batch was processed.
        """
        y_true, y_pred = np.array(self._y_true), np.array(self._y_pred)
        if not len(y_true):
            raise InputError("nothing was evaluated, because the split has no images")
        hits = y_true == y_pred
        labels = np.unique(y_true)
        return {
            "accuracy": float(100 * hits.mean()),
            "macro_f1": macro_f1(y_true, y_pred),
            "n_total": len(hits),
            "n_correct": int(hits.sum()),
            "per_class": {self._name(label): float(100 * hits[y_true == label].mean()) for label in labels},
            **self._confidences.scores(hits, np.zeros(len(hits)), {0: self._n_classes}),
        }

    def evaluate(self) -> OrderedDict[str, float]:
        record = self.record()
        results = OrderedDict(
            accuracy=record["accuracy"], error_rate=100.0 - record["accuracy"], macro_f1=record["macro_f1"]
        )
        print(
            "=> result\n"
            f"* total: {record['n_total']:,}\n"
            f"* correct: {record['n_correct']:,}\n"
            f"* accuracy: {results['accuracy']:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%{confidence.lines(record)}"
        )
        results |= confidence.results(record)
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_per_class()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix()
        return results

    def _save_confusion_matrix(self) -> None:
        from sklearn.metrics import confusion_matrix  # imported here because the import takes 2 s

        path = Path(self.cfg.OUTPUT_DIR) / "cmat.pt"
        save_sealed(torch.tensor(confusion_matrix(self._y_true, self._y_pred, normalize="true")), path)
        print(f"Confusion matrix is saved to {path}")

    def _print_per_class(self) -> float:
        """Print the accuracy of each class, and return the mean of these accuracies."""
        y_true, y_pred = np.array(self._y_true), np.array(self._y_pred)
        accuracies = []
        print("=> per-class result")
        for label in np.unique(y_true):
            hits = y_pred[y_true == label] == label
            accuracies.append(float(100 * hits.mean()))
            print(
                f"* class: {label} ({self._name(label)})\ttotal: {len(hits):,}\t"
                f"correct: {hits.sum():,}\tacc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def _name(self, label: int) -> str:
        """Return the class name of a label. Add the label to the name if several classes have this name."""
        name = self._lab2cname.get(int(label), str(label))
        return name if list(self._lab2cname.values()).count(name) < 2 else f"{name} ({label})"
