"""Fashion-20: twenty fashion tasks, SoftCPT's third benchmark (arXiv 2208.13474)."""

import csv
import os
import random

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from dassl.utils import InputError
from datasets.base import FewShotDataset, Splits
from datasets.multitask import MultiTask


class FashionTask(FewShotDataset):
    """The data set of one task. Its images are in fashion20/images/<task>/<class>/."""

    metric = "mean_acc"

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.read_and_split_data(self.image_dir, rng=rng)


@DATASET_REGISTRY.register()
class Fashion20(MultiTask):
    """A multi-task data set with the tasks that fashion20/task_info.csv lists.

    The columns of that file are separated by tabs: number, task name, description, class names. The class names are
    separated by commas.
    """

    dataset_dir = "fashion20"
    by_hand = "ask the authors for the data set: see github.com/kding1225/softcpt"

    def load_tasks(self, cfg: CfgNode) -> list[tuple[str, DatasetBase]]:
        folder = os.path.join(cfg.DATASET.ROOT, self.dataset_dir)
        info = os.path.join(folder, "task_info.csv")
        if not os.path.isfile(info):
            raise InputError(
                f"Fashion20: {info} doesn't exist. {self.dataset_dir}/ below DATASET.ROOT must hold task_info.csv and "
                f"images/<task>/<class>/; {self.by_hand}"
            )
        with open(info, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t"))[1:]
        tasks = []
        for _, name, *_ in rows:
            cls = type(name, (FashionTask,), {"dataset_dir": self.dataset_dir, "image_dir": f"images/{name}"})
            tasks.append((name, cls(cfg)))
        return tasks
