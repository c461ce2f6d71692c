"""Takes in logits batch by batch, gives accuracy and F1, and prints them in the lines that log parsers read."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score

from dassl.utils.errors import InputError
from dassl.utils.plugins import find
from dassl.utils.registry import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: Any, **kwargs: Any) -> "EvaluatorBase":
    """The evaluator that TEST.EVALUATOR names. Raises InputError for an unknown name."""
    return find(EVALUATOR_REGISTRY, "evaluator (TEST.EVALUATOR)", cfg.TEST.EVALUATOR)(cfg, **kwargs)


def macro_f1(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean F1 over the classes that occur in `y_true`, in percent."""
    return float(100 * f1_score(y_true, y_pred, average="macro", labels=np.unique(y_true), zero_division=0))


class EvaluatorBase:
    """reset, then process every batch, then evaluate."""

    def __init__(self, cfg: Any):
        self.cfg = cfg

    def reset(self) -> None:
        """Forget what was taken in."""
        raise TypeError(f"{type(self).__name__} must define reset")

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Take in model output (batch, classes) and labels (batch,)."""
        raise TypeError(f"{type(self).__name__} must define process")

    def evaluate(self) -> OrderedDict[str, float]:
        """Name -> result, the one to compare by first."""
        raise TypeError(f"{type(self).__name__} must define evaluate")

    def record(self) -> dict[str, Any]:
        """What `result.json` keeps of the evaluation, beside the run's own facts: here, what `evaluate` gives."""
        return {name: float(value) for name, value in self.evaluate().items()}


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate, macro F1 (over the classes that occur), in percent; accuracy by class on demand."""

    def __init__(self, cfg: Any, lab2cname: dict[int, str] | None = None, **kwargs: Any):
        super().__init__(cfg)
        self._lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self.logits: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(mo.argmax(1).tolist())
        if self.cfg.TEST.SAVE_PREDICTIONS:
            self.logits.append(mo.float().cpu())
            self.labels.append(gt.cpu())

    def record(self) -> dict[str, Any]:
        y_true, y_pred = np.array(self._y_true), np.array(self._y_pred)
        if not len(y_true):
            raise InputError("nothing was evaluated: the split holds no image")
        hits = y_true == y_pred
        labels = np.unique(y_true)
        return {
            "accuracy": float(100 * hits.mean()),
            "macro_f1": macro_f1(y_true, y_pred),
            "n_total": len(hits),
            "n_correct": int(hits.sum()),
            "per_class": {self._name(label): float(100 * hits[y_true == label].mean()) for label in labels},
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
            f"* macro_f1: {results['macro_f1']:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_per_class()
        if self.cfg.TEST.COMPUTE_CMAT:
            path = Path(self.cfg.OUTPUT_DIR) / "cmat.pt"
            torch.save(torch.tensor(confusion_matrix(self._y_true, self._y_pred, normalize="true")), path)
            print(f"Confusion matrix is saved to {path}")
        return results

    def _print_per_class(self) -> float:
        """Print every class's line; returns their mean accuracy."""
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
        """The class's name, with its label where several classes have that name."""
        name = self._lab2cname.get(int(label), str(label))
        return name if list(self._lab2cname.values()).count(name) < 2 else f"{name} ({label})"
