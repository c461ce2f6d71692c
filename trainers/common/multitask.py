"""What methods of several tasks share: labels as rows over all tasks' classes, and losses within a sample's task.

A label is a row (n_classes of all tasks): 1 for the sample's class, 0 for the other classes of its task, -1 elsewhere.
`datasets/multitask.py` makes such labels. A data set without tasks is one task, with plain labels.
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
    """Logits (batch, n_classes) with -inf outside each sample's task, and the column of its class (batch,).

    Labels are rows, or columns already if there is one task.
    """
    if labels.ndim == 1:
        return logits, labels
    return logits.masked_fill(labels < 0, -torch.inf), labels.argmax(1)


class MultiTaskMethod(Method):
    """A method over several tasks; its logits are over all tasks' classes, task by task."""

    def __init__(self, options: Options, clip: CLIP, tasks: Sequence[Task], template: str):
        super().__init__(options, clip, tasks, template)
        self.names = [name for task in tasks for name in task.classnames]
        self.task_of_class = torch.tensor(  # (n_classes,)
            [number for number, task in enumerate(tasks) for _ in task.classnames], device=clip.logit_scale.device
        )

    def losses(self, output: Output, batch: Batch) -> Losses:
        """Cross-entropy over the classes of each sample's own task."""
        return {"ce": (1.0, F.cross_entropy(*own_task(output.logits, batch.labels)))}

    def accuracy(self, output: Output, batch: Batch) -> float:
        return compute_accuracy(*own_task(output.logits, batch.labels))[0].item()


class MultiTaskTrainer(PromptTrainer):
    """A trainer whose method is built for tasks."""

    @classmethod
    def class_names(cls, dataset: DatasetBase) -> ClassNames:
        return [Task(name, list(classnames)) for name, classnames in dataset.tasks]

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ClassNames:
        return [Task("image recognition", names)]
