"""Scores of several tasks over one row of logits."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch

from dassl.evaluation.evaluator import EVALUATOR_REGISTRY, EvaluatorBase, macro_f1


@EVALUATOR_REGISTRY.register()
class ClassificationMT(EvaluatorBase):
    """The unweighted mean over tasks of each task's score, in percent.

    A label is a row over all tasks' classes: 1 for the class, 0 for the others of the task, -1 elsewhere; the
    prediction is among the task's own classes. A task's score is its overall accuracy or its mean class accuracy, as
    `dataset.metrics` says ("overall_acc", "mean_acc"). TEST.PER_TASK_RESULT prints each.
    """

    def __init__(self, cfg: Any, dataset: Any = None, lab2cname: dict[int, str] | None = None, **kwargs: Any):
        super().__init__(cfg)
        self.dataset, self._lab2cname = dataset, lab2cname or {}
        self._starts = [first for first, _ in dataset.columns]
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._tasks: list[int] = []
        self.logits: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        self._y_true.extend(gt.argmax(1).tolist())
        self._y_pred.extend(mo.masked_fill(gt < 0, -torch.inf).argmax(1).tolist())
        self._tasks.extend(self._starts.index(start) for start in (gt >= 0).int().argmax(1).tolist())
        if self.cfg.TEST.SAVE_PREDICTIONS:
            self.logits.append(mo.float().cpu())
            self.labels.append(gt.cpu())

    def record(self) -> dict[str, Any]:
        y_true, y_pred, tasks = np.array(self._y_true), np.array(self._y_pred), np.array(self._tasks)
        hits = y_true == y_pred
        per_class = {label: float(100 * hits[y_true == label].mean()) for label in np.unique(y_true)}
        per_task = {}
        for task, (name, metric) in enumerate(zip(self.dataset.tasknames, self.dataset.metrics, strict=True)):
            classes = [per_class[label] for label in np.unique(y_true[tasks == task])]
            per_task[name] = float(np.mean(classes) if metric == "mean_acc" else 100 * hits[tasks == task].mean())
        task_of = {label: self.dataset.tasknames[tasks[y_true == label][0]] for label in per_class}
        return {
            "accuracy": float(np.mean(list(per_task.values()))),
            "macro_f1": float(
                np.mean([macro_f1(y_true[tasks == task], y_pred[tasks == task]) for task in np.unique(tasks)])
            ),
            "n_total": len(hits),
            "n_correct": int(hits.sum()),
            "per_task": per_task,
            "per_class": {f"{task_of[label]}/{self._lab2cname[label]}": acc for label, acc in per_class.items()},
        }

    def evaluate(self) -> OrderedDict[str, float]:
        record = self.record()
        print(f"=> result\n* total: {record['n_total']:,}\n* correct: {record['n_correct']:,}")
        if self.cfg.TEST.PER_TASK_RESULT:
            for name, score in record["per_task"].items():
                print(f"* {name}: {score:.2f}%")
        print(f"* overall_metric: {record['accuracy']:.2f}%\n* accuracy: {record['accuracy']:.2f}%")
        return OrderedDict(metric=record["accuracy"], macro_f1=record["macro_f1"])
