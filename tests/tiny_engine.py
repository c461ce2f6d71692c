"""A data set of two classes and trainers of one linear layer, for tests of the engine."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import config, make_image
from torch.nn import functional as F
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TrainerX, TrainerXU
from dassl.optim import build_lr_scheduler, build_optimizer


class TwoClasses(DatasetBase):
    """Ten images of two classes: all for training and test, six without labels, four for validation."""

    folder: Path

    def __init__(self, cfg):
        items = [
            Datum(str(path), int(path.stem) % 2, classname=f"c{int(path.stem) % 2}")
            for path in sorted(self.folder.iterdir())
        ]
        super().__init__(train_x=items, train_u=items[:6], val=items[:4], test=items)


def register_two_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CfgNode]:
    """Register `TwoClasses` for one test. Return a function from KEY, VALUE pairs to a config that names it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        make_image(folder / f"{number}.png", (250 * (number % 2), 20 * number, 30), number)
    monkeypatch.setattr(TwoClasses, "folder", folder, raising=False)
    monkeypatch.setitem(DATASET_REGISTRY._objects, "TwoClasses", TwoClasses)
    overrides = ["DATASET.NAME", "TwoClasses", "INPUT.SIZE", (8, 8), "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "SEED", 1]
    overrides += [
        "DATALOADER.NUM_WORKERS",
        0,
        "OPTIM.MAX_EPOCH",
        3,
        "OPTIM.NAME",
        "sgd",
        "OPTIM.LR",
        0.1,
        "VERBOSE",
        False,
    ]
    overrides += ["INPUT.TRANSFORMS", ["random_resized_crop", "random_flip", "normalize"]]
    return lambda *more: config(*overrides, "OUTPUT_DIR", str(tmp_path / "out"), *more)


class Killed(BaseException):
    """Stands for a kill signal."""


def kill_at(trainer, epoch, before="run_epoch"):
    """Make `trainer` raise `Killed` when it calls its method `before` in an epoch, counted from 0."""
    original = getattr(trainer, before)

    def kill(*args, **kwargs):
        if trainer.epoch == epoch:
            raise Killed
        return original(*args, **kwargs)

    setattr(trainer, before, kill)


class LinearTrainer(TrainerX):
    """A linear layer over pixels."""

    def build_model(self):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)).to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("linear", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label, _ = self.parse_batch_train(batch)
        loss = F.cross_entropy(self.model(image), label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}


class LinearTrainerXU(TrainerXU):
    """The same with unlabelled batches, which the loss ignores."""

    build_model = LinearTrainer.build_model

    def forward_backward(self, batch_x, batch_u):
        image, label, unlabelled = self.parse_batch_train(batch_x, batch_u)
        assert unlabelled.shape == image.shape
        loss = F.cross_entropy(self.model(image), label)
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}
