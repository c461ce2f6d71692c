"""Shared code of the multi-task methods. The loss of a sample uses only the classes of the sample's task.

A label is a row with one entry for each class of every task. The entry is 1 for the sample's class, 0 for the other
classes of its task, and -1 for the classes of other tasks. `datasets/multitask.py` makes such labels. A data set
without tasks counts as one task, and its labels are class indices.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from clip.model import CLIP
from dassl.data.datasets import DatasetBase, Task
from dassl.metrics import compute_accuracy
from trainers.common.method import Batch, ClassNames, Losses, Method, Output
from trainers.common.options import Options
from trainers.common.trainer import PromptTrainer


def own_task(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (batch, n_classes), with -inf for classes of other tasks, and the class indices (batch,).

    Args:
        logits: (batch, n_classes), one column for each class of each task.
        labels: rows (batch, n_classes) as the module docstring explains; class indices (batch,) if there is one task.
    """
    if labels.ndim == 1:
        return logits, labels
    return logits.masked_fill(labels < 0, -torch.inf), labels.argmax(1)


class MultiTaskMethod(Method):
    """A method for several tasks. Its logits have one column for each class of each task, ordered by task."""

    def __init__(self, options: Options, clip: CLIP, tasks: Sequence[Task], template: str):
        super().__init__(options, clip, tasks, template)
        self.names = [name for task in tasks for name in task.classnames]
        self.task_of_class = torch.tensor(  # (n_classes,)
            [number for number, task in enumerate(tasks) for _ in task.classnames], device=clip.logit_scale.device
        )

    def losses(self, output: Output, batch: Batch) -> Losses:
        """Return the cross-entropy, where each sample is only compared with the classes of its task."""
        return {"ce": (1.0, F.cross_entropy(*own_task(output.logits, batch.labels)))}

    def accuracy(self, output: Output, batch: Batch) -> float:
        return compute_accuracy(*own_task(output.logits, batch.labels))[0].item()


class MultiTaskTrainer(PromptTrainer):
    """A trainer that builds its method from tasks. A plain list of class names becomes one task."""

    @classmethod
    def class_names(cls, dataset: DatasetBase) -> ClassNames:
        return [Task(name, list(classnames)) for name, classnames in dataset.tasks]

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ClassNames:
        return [Task("image recognition", names)]
