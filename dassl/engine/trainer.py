"""`SimpleTrainer` (one model, one loop over labelled batches) and its kin, under Dassl's names."""

import datetime
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dassl.data import DataManager
from dassl.engine.base import TrainerBase
from dassl.engine.results import MetricsLog, write_result
from dassl.engine.run_folder import check_resume
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, load_pretrained_weights
from dassl.utils.errors import unknown
from dassl.utils.meters import AverageMeter, MetricMeter
from dassl.utils.torchtools import BEST, load_checkpoint


def __getattr__(name: str) -> Any:
    """`SummaryWriter` by the name that trainers import from here; TensorBoard is slow to import."""
    if name == "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SimpleNet(nn.Module):
    """Backbone, optional head, linear classifier."""

    def __init__(self, cfg: Any, model_cfg: Any, num_classes: int, **kwargs: Any):
        super().__init__()
        self.backbone, features = build_backbone(model_cfg.BACKBONE.NAME, model_cfg.BACKBONE.PRETRAINED, **kwargs)
        self.head = None
        if model_cfg.HEAD.NAME and model_cfg.HEAD.HIDDEN_LAYERS:
            self.head, features = build_head(model_cfg.HEAD, features)
        self.classifier = nn.Linear(features, num_classes) if num_classes > 0 else None
        self._fdim = features

    @property
    def fdim(self) -> int:
        return self._fdim

    def forward(self, x: torch.Tensor, return_feature: bool = False):
        """Images (batch, 3, height, width) -> logits (batch, classes), with the features on demand."""
        features = self.backbone(x)
        if self.head is not None:
            features = self.head(features)
        if self.classifier is None:
            return features
        logits = self.classifier(features)
        return (logits, features) if return_feature else logits


class SimpleTrainer(TrainerBase):
    """Builds data, model and evaluator from the config; trains, tests, resumes."""

    tested_split = ""  # what test() tested last, how long it took, and on which images
    test_seconds = 0.0
    tested_paths: Sequence[str] = ()

    def __init__(self, cfg: Any):
        super().__init__()
        if cfg.TEST.FINAL_MODEL not in ("last_step", "best_val"):
            raise unknown("model to test (TEST.FINAL_MODEL)", cfg.TEST.FINAL_MODEL, ("last_step", "best_val"))
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname, dataset=self.dm.dataset)
        self.best_result = -np.inf

    def check_cfg(self, cfg: Any) -> None:
        """Hook: refuse a config that the trainer can't work with, before anything is built."""

    def build_data_loader(self) -> None:
        """Make the data manager and take over its loaders."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Make, register and equip the model: a `SimpleNet` unless a subclass has another."""
        cfg = self.cfg
        self.model: Any = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    # ---- the loop ----

    def train(self) -> None:  # type: ignore[override]
        """Train from `start_epoch` (or where an earlier run stopped) to the end, then test."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        directory = self.cfg.RESUME or self.cfg.OUTPUT_DIR
        check_resume(self.cfg)
        self.start_epoch = self.resume_model_if_exist(directory)
        best = [Path(directory) / name / BEST for name in self.get_model_names()]
        if self.start_epoch and best and best[0].is_file():
            self.best_result = load_checkpoint(best[0])["val_result"]
        self.init_writer(os.path.join(self.output_dir, "tensorboard"))
        self.metrics = MetricsLog(self.output_dir, self.start_epoch)
        self.time_start = time.time()

    def seed_epoch(self) -> None:
        super().seed_epoch()
        for loader in (self.train_loader_x, self.train_loader_u):
            if loader is not None:
                loader.dataset.epoch = self.epoch  # whose augmentation to make

    def after_epoch(self) -> None:
        cfg = self.cfg
        if cfg.TEST.FINAL_MODEL == "best_val" and not cfg.TEST.NO_TEST:
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, is_best=True, val_result=result)
        self.save_model(self.epoch, self.output_dir)  # every epoch, so that a run that is cut off can go on
        self._drop_previous_checkpoint()

    def _drop_previous_checkpoint(self) -> None:
        """Remove the last epoch's checkpoint unless TRAIN.CHECKPOINT_FREQ keeps it."""
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        if self.epoch == 0 or (freq > 0 and self.epoch % freq == 0):
            return
        for name in self.get_model_names():
            (Path(self.output_dir) / name / f"model.pth.tar-{self.epoch}").unlink(missing_ok=True)

    def after_train(self) -> None:
        print("Finish training")
        print("Finished training")  # the line that other versions' log parsers wait for
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val" and self.get_model_names():
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
                best = Path(self.output_dir) / self.get_model_names()[0] / BEST
                self.loaded_epoch = load_checkpoint(best)["epoch"]
            else:
                print("Deploy the last-epoch model")
            self.test()
            write_result(self)
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on TEST.SPLIT, or `split` ("val" where there is one, else test); returns the first result."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split not in ("val", "test"):
            raise unknown("split (TEST.SPLIT)", split, ("val", "test"))
        if split == "val" and self.val_loader is None:
            split = "test"
        self.tested_split = split
        loader = self.val_loader if split == "val" else self.test_loader
        print(f"Evaluate on the *{split}* set")
        started, paths = time.time(), []
        for output, label, impath in self.predictions(loader, split):
            paths += impath
            self.evaluator.process(output, label)
        self.test_seconds, self.tested_paths = time.time() - started, paths
        results = self.evaluator.evaluate()
        for key, value in results.items():
            self.write_scalar(f"{split}/{key}", value, self.epoch)
        return next(iter(results.values()))

    def predictions(self, loader: Any, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[str]]]:
        """Of every batch the logits, the labels and the images' paths."""
        for batch in tqdm(loader, desc=split, leave=False):
            input, label = self.parse_batch_test(batch)
            yield self.model_inference(input), label, batch["impath"]

    @property
    def tested_epoch(self) -> int:
        """After how many epochs the tested model is: that of the loaded file, else of this training."""
        if self.loaded_epoch is not None:
            return self.loaded_epoch
        return max(self.cfg.TEST.LOAD_EPOCH, 0) if self.cfg.TEST.EVAL_ONLY else self.max_epoch

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        """Images (batch, 3, height, width) -> logits (batch, classes)."""
        return self.model(input)

    def parse_batch_test(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels, on the device."""
        return batch["img"].to(self.device, non_blocking=True), batch["label"].to(self.device, non_blocking=True)

    # ---- batches ----

    def run_batches(self, batches: Iterable[tuple], num_batches: int) -> None:
        """`forward_backward(*batch)` over `batches`, with meters; keeps `batch_idx` and `num_batches`."""
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = num_batches
        end = time.time()
        for self.batch_idx, batch in enumerate(batches):
            data_time.update(time.time() - end)
            losses.update(self.forward_backward(*batch))
            batch_time.update(time.time() - end)
            self._report(losses, batch_time, data_time)
            end = time.time()

    def _report(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter) -> None:
        """After a batch: the log line where it is due, a line of metrics.jsonl, TensorBoard."""
        step, freq, lr = self.batch_idx + 1, self.cfg.TRAIN.PRINT_FREQ, self.get_current_lr()
        if step % freq == 0 or self.num_batches < freq:
            left = self.num_batches - step + (self.max_epoch - self.epoch - 1) * self.num_batches
            eta = datetime.timedelta(seconds=int(batch_time.avg * left))
            print(
                f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{step}/{self.num_batches}] "
                f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f}) "
                f"{losses} lr {lr:.4e} eta {eta}"
            )
        n_iter = self.epoch * self.num_batches + self.batch_idx
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, n_iter)
        self.write_scalar("train/lr", lr, n_iter)
        values = {name: meter.val for name, meter in losses.meters.items()}
        self.metrics.write(epoch=self.epoch + 1, batch=step, lr=lr, **values)


class TrainerX(SimpleTrainer):
    """Trains on labelled batches alone: `forward_backward(batch)`."""

    def run_epoch(self) -> None:
        loader = self.train_loader_x
        self.run_batches(((batch,) for batch in loader), len(loader))

    def parse_batch_train(self, batch: dict) -> Any:
        """Images, labels and domains, on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))


class TrainerXU(SimpleTrainer):
    """Trains on labelled and unlabelled batches side by side: `forward_backward(batch_x, batch_u)`.

    TRAIN.COUNT_ITER says whose length an epoch has; the other loader starts over as often as it takes.
    """

    def run_epoch(self) -> None:
        x, u = self.train_loader_x, self.train_loader_u
        lengths = {"train_x": len(x), "train_u": len(u), "smaller_one": min(len(x), len(u))}
        if self.cfg.TRAIN.COUNT_ITER not in lengths:
            raise unknown("length of an epoch (TRAIN.COUNT_ITER)", self.cfg.TRAIN.COUNT_ITER, lengths)
        num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        pairs = zip(_endless(x), _endless(u), strict=False)
        self.run_batches(itertools.islice(pairs, num_batches), num_batches)

    def parse_batch_train(self, batch_x: dict, batch_u: dict) -> Any:  # type: ignore[override]
        """Labelled images, their labels, unlabelled images, on the device."""
        return tuple(t.to(self.device) for t in (batch_x["img"], batch_x["label"], batch_u["img"]))


def _endless(loader: Iterable) -> Iterator:
    while True:
        yield from loader
