"""`TrainerBase`: the loop over epochs, the registered models, and their checkpoints.

`SimpleTrainer` and its subclasses derive from `TrainerBase`. A trainer registers each model under a name, together with
the model's optimiser and schedule. `TrainerBase` then sets the mode of all registered models, steps their optimisers
and saves their checkpoints.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl import distributed
from dassl.data.seeds import mix_seed
from dassl.engine.resume import Loaded, load_matching, load_newest, replace_best
from dassl.engine.scalars import ScalarLog
from dassl.utils.checkpoint_content import report_misfit
from dassl.utils.checkpoint_files import BEST, NEXT_BEST
from dassl.utils.errors import InputError
from dassl.utils.tools import set_random_seed, tolist_if_not
from dassl.utils.torchtools import Checkpoint, find_checkpoint, restore, save_checkpoint

ParsedBatch = Any  # result of parse_batch_train, as forward_backward needs it; its type depends on the trainer


class TrainerBase(ScalarLog):
    """The base class of trainers. It has the loop over epochs, the loop's hooks, and the registered models.

    A subclass must define at least `run_epoch`.
    """

    cfg: CfgNode
    epoch: int = 0  # index of the current epoch, from 0
    start_epoch: int
    max_epoch: int
    batch_idx: int = 0  # index of the current batch in its epoch, from 0
    num_batches: int  # number of batches in an epoch
    loaded_epoch: int | None = None  # epoch of the checkpoint that `load_model` loaded, counted from 1
    resumed: Loaded = []  # path and content of each model's checkpoint from which the training was resumed

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, torch.optim.Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, LRScheduler | None] = OrderedDict()

    # ---- the loop ----

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Train from epoch `start_epoch` to epoch `max_epoch` - 1. Both are indices from 0."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()  # sets start_epoch if the run is resumed
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.seed_epoch()
            self.before_epoch()
            self.run_epoch()  # all batches
            self.end_epoch()
            self.after_epoch()  # validate and save
        self.after_train()

    def seed_epoch(self) -> None:
        """Seed the random generators from SEED and the epoch, so that a resumed run draws the same numbers."""
        if self.cfg.SEED >= 0:
            set_random_seed(mix_seed(self.cfg.SEED, self.epoch))

    # ---- hooks, which a subclass can override ----

    def before_train(self) -> None:
        """Called before the first epoch."""

    def before_epoch(self) -> None:
        """Called before the batches of an epoch."""

    def run_epoch(self) -> None:
        """Train on all batches of an epoch."""
        raise TypeError(f"{type(self).__name__} must define run_epoch")

    def end_epoch(self) -> None:
        """Called after the batches of an epoch, before validation and the checkpoint. Does nothing by default."""

    def after_epoch(self) -> None:
        """Called at the end of an epoch. `SimpleTrainer` validates and saves here."""

    def after_train(self) -> None:
        """Called after the last epoch."""

    def extra_state(self) -> dict[str, object]:
        """Return additional values to save in checkpoints, by name. By default, the dict is empty.

        Models, optimisers and schedules are always saved, so the dict doesn't contain them.
        """
        return {}

    def load_extra_state(self, checkpoint: dict) -> None:
        """Restore the values of `extra_state` from a checkpoint. Called on a resume.

        `checkpoint` is the content of the first registered model's checkpoint.
        """

    def result_fields(self) -> Mapping[str, object]:
        """Return fields to add to `result.json` ({} by default). They replace existing fields of the same name."""
        return {}

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Train on a batch. Return the values to log, such as losses, by name."""
        raise TypeError(f"{type(self).__name__} must define forward_backward")

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, classes) of images (batch, 3, height, width)."""
        raise TypeError(f"{type(self).__name__} must define model_inference")

    def parse_batch_train(self, batch: dict) -> ParsedBatch:
        """Return the parts of a training batch that `forward_backward` needs, moved to the device."""
        raise TypeError(f"{type(self).__name__} must define parse_batch_train")

    def parse_batch_test(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images and labels of a test batch, moved to the device."""
        raise TypeError(f"{type(self).__name__} must define parse_batch_test")

    def test(self, split: str | None = None) -> float:
        """Evaluate the model on a split, and return the evaluator's first result."""
        raise TypeError(f"{type(self).__name__} must define test")

    # ---- registered models ----

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: torch.optim.Optimizer | None = None,
        sched: LRScheduler | None = None,
    ) -> None:
        """Register a model. The trainer sets the model's mode, steps `optim` and saves the model in the folder `name`.

        Raises:
            RuntimeError: `TrainerBase.__init__` hasn't been called.
            KeyError: another model is registered under this name.
        """
        if self.__dict__.get("_models") is None:
            raise RuntimeError("call super().__init__() before registering a model")
        if name in self._models:
            raise KeyError(f"another model is already registered as {name!r}")
        self._models[name] = model  # type: ignore[assignment]  # Dassl allows a model that is None
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | Sequence[str] | None = None) -> list[str]:
        """Return `names` as a list, or all registered names if `names` is None.

        Raises:
            InputError: one of `names` isn't registered.
        """
        if names is None:
            return list(self._models)
        wanted = tolist_if_not(names)
        for name in wanted:
            if name not in self._models:
                raise InputError(f"no model {name!r} is registered; registered models: {', '.join(self._models)}")
        return wanted

    def set_model_mode(self, mode: str = "train", names: str | Sequence[str] | None = None) -> None:
        """Set the models to training mode ("train") or to evaluation mode ("test" or "eval").

        Raises KeyError for any other `mode`.
        """
        if mode not in ("train", "test", "eval"):
            raise KeyError(mode)
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def model_backward_and_update(self, loss: torch.Tensor, names: str | Sequence[str] | None = None) -> None:
        """Zero the gradients, compute the gradients of `loss`, and step the optimisers."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def model_zero_grad(self, names: str | Sequence[str] | None = None) -> None:
        """Zero the gradients of the models that have an optimiser."""
        for name in self.get_model_names(names):
            optim = self._optims[name]
            if optim is not None:
                optim.zero_grad()

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Raise FloatingPointError if the loss is infinite or NaN."""
        if not torch.isfinite(loss).all():
            raise FloatingPointError(f"Loss is infinite or NaN! (epoch {self.epoch + 1}, batch {self.batch_idx + 1})")

    def model_backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients of `loss`. Raises FloatingPointError if the loss is infinite or NaN."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | Sequence[str] | None = None) -> None:
        """Step the optimisers."""
        for name in self.get_model_names(names):
            optim = self._optims[name]
            if optim is not None:
                optim.step()

    def update_lr(self, names: str | Sequence[str] | None = None) -> None:
        """Step the schedules. Trainers call this method after the last batch of an epoch."""
        for name in self.get_model_names(names):
            sched = self._scheds[name]
            if sched is not None:
                sched.step()

    def get_current_lr(self, names: str | Sequence[str] | None = None) -> float:
        """Return the learning rate of the first parameter group of the first model."""
        optim = self._optims[self.get_model_names(names)[0]]
        assert optim is not None
        return optim.param_groups[0]["lr"]

    # ---- checkpoints ----

    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Save each registered model as `<directory>/<name>/model.pth.tar-<epoch + 1>`, where `epoch` starts at 0.

        If `is_best` is True, save the models as the best model, called `model-best.pth.tar`. It is replaced only when
        all models are saved. If there are several processes, only the main process saves them.
        """
        distributed.on_main(lambda: self._save_model(epoch, directory, is_best, val_result, model_name))

    def _save_model(self, epoch: int, directory: str, is_best: bool, val_result: float | None, model_name: str) -> None:
        is_best = is_best or model_name == BEST
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": optim.state_dict() if optim is not None else None,
                "scheduler": sched.state_dict() if sched is not None else None,
                "val_result": val_result,
            } | self.extra_state()
            save_checkpoint(state, Path(directory) / name, model_name=NEXT_BEST if is_best else model_name)
        if is_best:
            replace_best([Path(directory) / name for name in self.get_model_names()])

    def resume_model_if_exist(self, directory: str) -> int:
        """Load the checkpoints in `directory` that `resume.load_newest` chooses. Return the index of the next epoch.

        If any of the models has no checkpoint there, load nothing and return 0.
        """
        folders = [Path(directory) / name for name in self.get_model_names()]
        loaded = distributed.on_main(lambda: load_newest(folders))
        if not loaded:
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        start_epoch = 0
        for name, (path, checkpoint) in zip(self.get_model_names(), loaded, strict=True):
            print(f'Loading checkpoint from "{path}"')
            start_epoch = restore(checkpoint, path, self._models[name], self._optims[name], self._scheds[name])
        first, content = loaded[0]
        with report_misfit(first, "method"):
            self.load_extra_state(content)
        self.resumed = loaded
        return start_epoch

    def find_checkpoint(self, directory: str, name: str, epoch: int | None = None) -> Path:
        """Return the path of the checkpoint of the model `name` that `torchtools.find_checkpoint` selects.

        Raises FileNotFoundError if the checkpoint doesn't exist.
        """
        return find_checkpoint(Path(directory) / name, epoch, self.cfg.TEST.FINAL_MODEL == "best_val")

    def load_checkpoints(self, directory: str, epoch: int | None = None) -> list[tuple[str, Path, Checkpoint]]:
        """Return (name, path, content) of a checkpoint for each registered model. See `resume.load_matching`."""
        names, prefers_best = self.get_model_names(), self.cfg.TEST.FINAL_MODEL == "best_val"
        folders = [Path(directory) / name for name in names]
        loaded = distributed.on_main(lambda: load_matching(folders, epoch, prefers_best))
        return [(name, *found) for name, found in zip(names, loaded, strict=True)]

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of each registered model from the checkpoint that `find_checkpoint` returns.

        The names and shapes of the weights must match the model's exactly. If `directory` is "", nothing is loaded.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        for name, path, checkpoint in self.load_checkpoints(directory, epoch):
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']})")
            self._models[name].load_state_dict(checkpoint["state_dict"])
            self.loaded_epoch = checkpoint["epoch"]
