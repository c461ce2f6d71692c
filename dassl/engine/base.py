"""`TrainerBase`: models by name, their checkpoints, and the loop over epochs."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dassl.data.data_manager import mix_seed
from dassl.utils.errors import InputError
from dassl.utils.tools import set_random_seed, tolist_if_not, write_text
from dassl.utils.torchtools import BEST, POINTER, load_checkpoint, resume_from_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TrainerBase:
    """Registered models with their optimisers and schedules; train() is the loop, subclasses fill in the epochs."""

    loaded_epoch: int | None = None  # epoch of the prompts that load_model loaded

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, torch.optim.Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: SummaryWriter | None = None

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: torch.optim.Optimizer | None = None,
        sched: Any = None,
    ) -> None:
        """Put `model` under the engine's care: its mode, steps and checkpoints (in a folder of that name).

        Raises:
            RuntimeError: called before `__init__`.
            KeyError: the name is taken.
        """
        if self.__dict__.get("_models") is None:
            raise RuntimeError("call super().__init__() before registering a model")
        if name in self._models:
            raise KeyError(f"a model is registered as {name!r} already")
        self._models[name] = model  # type: ignore[assignment]
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | Sequence[str] | None = None) -> list[str]:
        """All registered names, or `names` as a list. Raises InputError for one that isn't registered."""
        if names is None:
            return list(self._models)
        wanted = tolist_if_not(names)
        for name in wanted:
            if name not in self._models:
                raise InputError(f"no model {name!r} is registered; there is: {', '.join(self._models)}")
        return wanted

    # ---- checkpoints ----

    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Save every registered model after `epoch` (0-based) as `<directory>/<name>/model.pth.tar-<epoch + 1>`."""
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": optim.state_dict() if optim is not None else None,
                "scheduler": sched.state_dict() if sched is not None else None,
                "val_result": val_result,
            } | self.extra_state()
            save_checkpoint(state, Path(directory) / name, is_best=is_best, model_name=model_name)

    def end_epoch(self) -> None:
        """Hook."""

    def result_fields(self) -> dict[str, Any]:
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Hook: what else a trainer needs to go on from a checkpoint."""
        return {}

    def resume_model_if_exist(self, directory: str) -> int:
        """Go on from the last checkpoints in `directory` where every model has one; returns the next epoch."""
        folders = [Path(directory) / name for name in self.get_model_names()]
        if not folders or not all((folder / POINTER).is_file() for folder in folders):
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        last = {folder: (folder / POINTER).read_text().strip() for folder in folders}
        if len(set(last.values())) > 1:  # killed between two parts: go on from the last epoch that all have
            common = min(last.values(), key=lambda name: int(name.rpartition("-")[2]))
            for folder in folders:
                write_text(common + "\n", folder / POINTER)
        start_epoch = 0
        for folder, name in zip(folders, self.get_model_names(), strict=True):
            start_epoch = resume_from_checkpoint(folder, self._models[name], self._optims[name], self._scheds[name])
        return start_epoch

    def find_checkpoint(self, directory: str, name: str, epoch: int | None = None) -> Path:
        """The file of model `name`: of `epoch`; else the best where FINAL_MODEL is best_val; else the last saved.

        Raises:
            FileNotFoundError: there is none; names the folder and what lies in it.
        """
        folder = Path(directory) / name
        there = {int(p.name.rpartition("-")[2]): p for p in folder.glob("model.pth.tar-*") if p.name[-1].isdigit()}
        best = folder / BEST
        if epoch is not None:
            if epoch in there:
                return there[epoch]
        elif best.is_file() and (not there or self.cfg.TEST.FINAL_MODEL == "best_val"):  # type: ignore[attr-defined]
            return best
        elif there:
            return there[max(there)]
        held = ", ".join(sorted(p.name for p in folder.glob("*.tar*"))) if folder.is_dir() else "no such folder"
        wanted = "no checkpoint" if epoch is None else f"no model.pth.tar-{epoch}"
        raise FileNotFoundError(f"{wanted} in {folder} ({held or 'empty'})")

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the state of every registered model, strictly, from `directory` (see `find_checkpoint`)."""
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            path = self.find_checkpoint(directory, name, epoch)
            checkpoint = load_checkpoint(path)
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']})")
            self._models[name].load_state_dict(checkpoint["state_dict"])
            self.loaded_epoch = checkpoint["epoch"]

    # ---- TensorBoard ----

    def init_writer(self, log_dir: str) -> None:
        """Open a TensorBoard writer, once."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import: only where it is used

            os.makedirs(log_dir, exist_ok=True)
            self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # ---- the loop ----

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """before_train, then for every epoch before_epoch, run_epoch, after_epoch, then after_train."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()  # may move start_epoch: a resume
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.seed_epoch()
            self.before_epoch()
            self.run_epoch()
            self.end_epoch()
            self.after_epoch()
        self.after_train()

    def seed_epoch(self) -> None:
        """Make all that follows in this epoch depend on the seed and the epoch alone, resumed or not."""
        seed = self.cfg.SEED  # type: ignore[attr-defined]
        if seed >= 0:
            set_random_seed(mix_seed(seed, self.epoch))

    def before_train(self) -> None:
        """Hook."""

    def after_train(self) -> None:
        """Hook."""

    def before_epoch(self) -> None:
        """Hook."""

    def after_epoch(self) -> None:
        """Hook."""

    def run_epoch(self) -> None:
        raise TypeError(f"{type(self).__name__} must define run_epoch")

    def test(self, split: str | None = None) -> float:
        raise TypeError(f"{type(self).__name__} must define test")

    def parse_batch_train(self, batch: dict) -> Any:
        raise TypeError(f"{type(self).__name__} must define parse_batch_train")

    def parse_batch_test(self, batch: dict) -> Any:
        raise TypeError(f"{type(self).__name__} must define parse_batch_test")

    def forward_backward(self, batch: dict) -> dict[str, float]:
        raise TypeError(f"{type(self).__name__} must define forward_backward")

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        raise TypeError(f"{type(self).__name__} must define model_inference")

    # ---- modes and steps ----

    def set_model_mode(self, mode: str = "train", names: str | Sequence[str] | None = None) -> None:
        """Put registered models in "train" or "test"/"eval" mode. Raises KeyError for another."""
        if mode not in ("train", "test", "eval"):
            raise KeyError(mode)
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | Sequence[str] | None = None) -> None:
        """Step the schedules."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | Sequence[str] | None = None) -> float:
        """Learning rate of the first group of the first model."""
        optim = self._optims[self.get_model_names(names)[0]]
        assert optim is not None
        return optim.param_groups[0]["lr"]

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Raise FloatingPointError unless the loss is finite."""
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")

    def model_zero_grad(self, names: str | Sequence[str] | None = None) -> None:
        for name in self.get_model_names(names):
            optim = self._optims[name]
            if optim is not None:
                optim.zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | Sequence[str] | None = None) -> None:
        for name in self.get_model_names(names):
            optim = self._optims[name]
            if optim is not None:
                optim.step()

    def model_backward_and_update(self, loss: torch.Tensor, names: str | Sequence[str] | None = None) -> None:
        """Zero the gradients, backward, step: over all registered names, or `names`."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)
