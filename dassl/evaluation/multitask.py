"""`ClassificationMT` evaluates one model on several tasks.

The model returns a row of logits for each image, with a column for each class of each task. An image's predicted class
is the class with the highest logit among the classes of the image's task. The logits of other tasks are ignored.
SoftCPT and its baselines use this evaluator: they set TEST.EVALUATOR to ClassificationMT.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.evaluation import confidence
from dassl.evaluation.evaluator import EVALUATOR_REGISTRY, EvaluatorBase, macro_f1
from dassl.utils.errors import InputError


@runtime_checkable
class TaskTable(Protocol):
    """The attributes that a data set of several tasks must have. `datasets.multitask.MultiTask` has them."""

    @property
    def tasknames(self) -> Sequence[str]:
        """Name of each task."""

    @property
    def metrics(self) -> Sequence[str]:
        """Name of the score of each task. "overall_acc" is the accuracy over all images of the task. "mean_acc" is the
        mean of the accuracies of the task's classes."""

    @property
    def columns(self) -> Sequence[tuple[int, int]]:
        """The range (start, end) of each task's columns in the logits. Column `end` isn't part of the task."""


class MultiTaskRecord(confidence.Scores):
    """The fields of `result.json` that come from `ClassificationMT`. Scores are in percent."""

    accuracy: float  # mean of the tasks' scores
    macro_f1: float  # mean of the tasks' macro F1
    n_total: int
    n_correct: int
    per_task: dict[str, float]  # task name -> score
    per_class: dict[str, float]  # "task name/class name" -> accuracy


@EVALUATOR_REGISTRY.register()
class ClassificationMT(EvaluatorBase):
    """Computes the unweighted mean of the tasks' scores, in percent.

    If TEST.PER_TASK_RESULT is set, the score of each task is printed, too.

    A label is a row with one entry for each class of each task. The entry is 1 for the image's class, 0 for the other
    classes of the image's task, and -1 for the classes of other tasks.

    Args:
        cfg: the config.
        dataset: a data set of several tasks.
        lab2cname: mapping from the index of a column of the logits to the name of the column's class.
        kwargs: ignored, because only other evaluators use these arguments.

    Raises:
        InputError: `dataset` isn't a data set of several tasks.
    """

    def __init__(
        self, cfg: CfgNode, dataset: object = None, lab2cname: Mapping[int, str] | None = None, **kwargs: object
    ):
        super().__init__(cfg)
        if not isinstance(dataset, TaskTable):
            raise InputError(
                "ClassificationMT (TEST.EVALUATOR) needs a data set of several tasks (DATASET.NAME MultiTask), "
                f"but {cfg.DATASET.NAME} has one task"
            )
        self.dataset, self._lab2cname = dataset, lab2cname or {}
        self._starts = [first for first, _ in dataset.columns]
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []  # for each image, the column of its class in the logits
        self._y_pred: list[int] = []  # for each image, the column of its predicted class in the logits
        self._tasks: list[int] = []  # index of each image's task
        self._confidences = confidence.Confidences()
        self.logits: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch: logits (batch, all classes) and label rows (batch, all classes)."""
        of_task, labels = mo.masked_fill(gt < 0, -torch.inf), gt.argmax(1)  # (batch, all classes), (batch,)
        self._y_true.extend(labels.tolist())
        self._y_pred.extend(of_task.argmax(1).tolist())
        self._confidences.add(of_task, labels)
        # In a label row, the first entry that isn't -1 is at the first column of the image's task.
        self._tasks.extend(self._starts.index(start) for start in (gt >= 0).int().argmax(1).tolist())
        if self.cfg.TEST.SAVE_PREDICTIONS:
            self.logits.append(mo.float().cpu())
            self.labels.append(gt.cpu())

    def record(self) -> MultiTaskRecord:
        y_true, y_pred, tasks = np.array(self._y_true), np.array(self._y_pred), np.array(self._tasks)
        hits = y_true == y_pred
        per_class = {label: float(100 * hits[y_true == label].mean()) for label in np.unique(y_true)}
        per_task = {}
        for task, (name, metric) in enumerate(zip(self.dataset.tasknames, self.dataset.metrics, strict=True)):
            if task not in tasks:
                continue  # the task has no validation images
            classes = [per_class[label] for label in np.unique(y_true[tasks == task])]
            per_task[name] = float(np.mean(classes) if metric == "mean_acc" else 100 * hits[tasks == task].mean())
        n_classes = {task: end - start for task, (start, end) in enumerate(self.dataset.columns) if task in tasks}
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
            **self._confidences.scores(hits, tasks, n_classes),
        }

    def evaluate(self) -> OrderedDict[str, float]:
        record = self.record()
        print(f"=> result\n* total: {record['n_total']:,}\n* correct: {record['n_correct']:,}")
        if self.cfg.TEST.PER_TASK_RESULT:
            for name, score in record["per_task"].items():
                print(f"* {name}: {score:.2f}%")
        accuracy = f"{record['accuracy']:.2f}%"
        print(f"* overall_metric: {accuracy}\n* accuracy: {accuracy}{confidence.lines(record)}")
        return OrderedDict(metric=record["accuracy"], macro_f1=record["macro_f1"], **confidence.results(record))
