"""Several data sets as tasks that are trained at once: a list of registered data sets with their tasks' names."""

import itertools
from pathlib import Path
from typing import Any

import torch

from dassl.config import merge_words
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.utils import InputError, unknown
from datasets.base import halves


class MultiTaskDatum(Datum):
    """An image of one of several tasks; its label is a row over all tasks' classes, in order.

    Args:
        columns: the first column of its task and the one behind its last.
        total: number of all tasks' classes.
    """

    def __init__(self, item: Datum, task: int, columns: tuple[int, int], total: int):
        super().__init__(item.impath, item.label, item.domain, item.classname)
        self.task, self._columns, self._total = task, columns, total

    @property
    def label(self) -> torch.Tensor:  # type: ignore[override]
        """(total,): 1 for its class, 0 for the others of its task, -1 for those of other tasks"""
        row = torch.full((self._total,), -1)
        row[slice(*self._columns)] = 0
        row[self._columns[0] + self._label] = 1
        return row


@DATASET_REGISTRY.register()
class MultiTask(DatasetBase):
    """DATASET.TASKS: a list of [data set, task name], or [data set, task name, DATASET.PATH] for one's own data.

    A task's name is the first line of `task_name.txt` in the data set's folder, else the one in the list, else one
    made from the data set's name. Tasks whose data is not there are left out, which is said. DATASET.SUBSAMPLE_TASKS
    takes all tasks, the base half, the new half, or one by its number; SUBSAMPLE_CLASSES works within each task.
    """

    def __init__(self, cfg: Any):
        sources = self._pick(cfg.DATASET.SUBSAMPLE_TASKS, self.load_tasks(cfg))
        self.tasknames = [name for name, _ in sources]
        self.metrics = [getattr(source, "metric", "overall_acc") for _, source in sources]
        counts = [source.num_classes for _, source in sources]
        starts = [0, *itertools.accumulate(counts)]
        self.columns = list(itertools.pairwise(starts))  # of every task: first column, one behind the last
        splits: dict[str, list[Datum]] = {"train_x": [], "val": [], "test": []}
        for task, (_, source) in enumerate(sources):
            for split, items in splits.items():
                found = getattr(source, split) or []
                items += [MultiTaskDatum(item, task, self.columns[task], starts[-1]) for item in found]
        self._train_x, self._val, self._test = splits["train_x"], splits["val"] or None, splits["test"]
        self._train_u = None
        self._num_classes = starts[-1]
        self._classnames = [source.classnames for _, source in sources]
        self._lab2cname = dict(enumerate(name for names in self._classnames for name in names))

    def load_tasks(self, cfg: Any) -> list[tuple[str, DatasetBase]]:
        """(task name, data set) of every task in DATASET.TASKS. Raises InputError where no task's data is there."""
        if not cfg.DATASET.TASKS:
            raise InputError('DATASET.TASKS is empty: list tasks as [["OxfordPets", "pet breed recognition"], ...]')
        tasks, missing = [], []
        for entry in cfg.DATASET.TASKS:
            name, taskname, path = (*entry, "", "")[:3]
            own = cfg.clone()
            own.defrost()
            merge_words(own, ["DATASET.NAME", name, "DATASET.PATH", path])
            if name not in DATASET_REGISTRY.registered_names():
                raise unknown("data set (DATASET.TASKS)", name, DATASET_REGISTRY.registered_names())
            try:
                source = build_dataset(own)
            except InputError as error:
                missing.append(f"{name} ({error})")
            else:
                tasks.append((task_name(source, taskname), source))
        if not tasks:
            raise InputError(f"no task's data is there: {'; '.join(missing)}")
        if missing:
            names = "\n  ".join(missing)
            print(f"Left out {len(missing)} of {len(cfg.DATASET.TASKS)} tasks, whose data is not there:\n  {names}")
        return tasks

    @staticmethod
    def _pick(which: str, tasks: list) -> list:
        """The tasks that SUBSAMPLE_TASKS names."""
        if which.isdigit() and int(which) < len(tasks):
            return [tasks[int(which)]]
        if which not in ("all", "base", "new"):
            numbers = (str(number) for number in range(len(tasks)))
            raise unknown("choice of tasks (DATASET.SUBSAMPLE_TASKS)", which, ("all", "base", "new", *numbers))
        return tasks if which == "all" else halves(tasks, which)


def task_name(source: DatasetBase, given: str = "") -> str:
    """What a data set's task is called: by task_name.txt in its folder, else `given`, else by its own name."""
    file = Path(source.dataset_dir) / "task_name.txt"
    if file.is_file():
        return file.read_text().strip().splitlines()[0]
    words = "".join(f" {c}" if c.isupper() else c for c in type(source).__name__).strip().lower()
    return given or f"{words} recognition"
