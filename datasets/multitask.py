"""Joins several data sets into one multi-task data set, which SoftCPT and its baselines train on.

Each of the joined data sets is a task. In a multi-task data set, class names and labels have special types.
`MultiTask.classnames` holds one list of class names per task. The label of a `MultiTaskDatum` is a row with one entry
for each class of every task. `MultiTask.tasks` lists the tasks with their class names.
"""

import itertools

import torch
from yacs.config import CfgNode

from dassl.config import merge_words
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, Task, build_dataset
from dassl.utils import InputError, unknown
from datasets._missing import MissingData
from datasets.base import halves


class MultiTaskDatum(Datum):
    """An image of one task. Its label is a row with one entry for each class of every task, in the order of the tasks.

    Args:
        item: the image with its label within the task.
        task: index of the task.
        columns: (start, stop). The task's entries in the row are row[start:stop].
        total: number of classes in all tasks together, which is the length of the row.
    """

    def __init__(self, item: Datum, task: int, columns: tuple[int, int], total: int):
        super().__init__(item.impath, item.label, item.domain, item.classname)
        self.task, self._columns, self._total = task, columns, total

    @property
    def label(self) -> torch.Tensor:  # type: ignore[override]  # a tensor instead of an int
        """The label row (total,).

        It has 1 for the image's class, 0 for the other classes of the task, and -1 for the classes of other tasks.
        """
        row = torch.full((self._total,), -1)
        row[slice(*self._columns)] = 0
        row[self._columns[0] + self._label] = 1
        return row


@DATASET_REGISTRY.register()
class MultiTask(DatasetBase):
    """A multi-task data set. Each data set that DATASET.TASKS lists is one task.

    An entry of DATASET.TASKS is [data set, task name], or [data set, task name, DATASET.PATH] for a user's own data.
    Data sets that aren't on this machine are skipped with a warning. A wrong DATASET.PATH is an error.
    DATASET.SUBSAMPLE_TASKS is "all", "base" (first half of the tasks), "new" (second half), or the number of a single
    task (from 0). DATASET.SUBSAMPLE_CLASSES selects classes within each task.

    Attributes, each a list in the order of the tasks:
        tasknames: name of every task. `DatasetBase.task_name` says where the name comes from.
        classnames: list of class names of every task.
        columns: (start, stop) of every task. In a label row, the task's entries are row[start:stop].
        metrics: name of the score of every task, "overall_acc" or "mean_acc".
    """

    def __init__(self, cfg: CfgNode):
        sources = self._pick(cfg.DATASET.SUBSAMPLE_TASKS, self.load_tasks(cfg))
        self.tasknames = [name for name, _ in sources]
        # Third-party data sets may lack the attribute `metric`.
        self.metrics: list[str] = [getattr(source, "metric", "overall_acc") for _, source in sources]
        starts = [0, *itertools.accumulate(source.num_classes for _, source in sources)]
        self.columns = list(itertools.pairwise(starts))
        splits: dict[str, list[Datum]] = {"train_x": [], "val": [], "test": []}
        for task, (_, source) in enumerate(sources):
            for name, items in (("train_x", source.train_x), ("val", source.val), ("test", source.test)):
                splits[name] += [MultiTaskDatum(item, task, self.columns[task], starts[-1]) for item in items or []]
        # DatasetBase.__init__ isn't called, because it expects integer labels. Here, labels are rows.
        self._train_x, self._val, self._test = splits["train_x"], splits["val"] or None, splits["test"]
        self._train_u = None
        self._num_classes = starts[-1]
        self._task_classnames = [source.classnames for _, source in sources]
        self._lab2cname = dict(enumerate(name for names in self._task_classnames for name in names))

    @property
    def classnames(self) -> list[list[str]]:  # type: ignore[override]  # a list of names per task
        """Class names, as one list per task. The names in a list are in the order of the labels within the task."""
        return self._task_classnames

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in the order of their columns in a label row."""
        return list(map(Task, self.tasknames, self.classnames))

    def load_tasks(self, cfg: CfgNode) -> list[tuple[str, DatasetBase]]:
        """Return (task name, data set) for every task in DATASET.TASKS that has data.

        Raises:
            InputError: if no task has data, if DATASET.TASKS is empty, if it names an unknown data set or a wrong path,
                or if the data of a task is wrong.
        """
        if not cfg.DATASET.TASKS:
            raise InputError('DATASET.TASKS is empty. It must be like [["OxfordPets", "pet breed recognition"], ...]')
        tasks, missing = [], []
        for entry in cfg.DATASET.TASKS:
            name, taskname, path = (*entry, "", "")[:3]
            task_cfg = cfg.clone()
            task_cfg.defrost()
            merge_words(task_cfg, ["DATASET.NAME", name, "DATASET.PATH", path])
            if name not in DATASET_REGISTRY.registered_names():
                raise unknown("data set (DATASET.TASKS)", name, DATASET_REGISTRY.registered_names())
            try:
                source = build_dataset(task_cfg)
            except MissingData as error:
                missing.append(f"{name} ({error})")
            except InputError as error:
                raise InputError(f"the task {taskname or name} of DATASET.TASKS: {error}") from error
            else:
                tasks.append((source.task_name(taskname), source))
        if not tasks:
            raise InputError(f"none of the tasks in DATASET.TASKS has data: {'; '.join(missing)}")
        if missing:
            names = "\n  ".join(missing)
            print(f"Skipped {len(missing)} of {len(cfg.DATASET.TASKS)} tasks because of missing data:\n  {names}")
        return tasks

    @staticmethod
    def _pick(which: str, tasks: list[tuple[str, DatasetBase]]) -> list[tuple[str, DatasetBase]]:
        """Return the tasks that `which` (DATASET.SUBSAMPLE_TASKS) selects."""
        if which.isdecimal() and int(which) < len(tasks):
            return [tasks[int(which)]]
        if which not in ("all", "base", "new"):
            numbers = (str(number) for number in range(len(tasks)))
            raise unknown("choice of tasks (DATASET.SUBSAMPLE_TASKS)", which, ("all", "base", "new", *numbers))
        return tasks if which == "all" else list(halves(tasks, which))
