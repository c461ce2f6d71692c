"""`TrainerBase`: the loop over epochs with its hooks, and the checkpoints of the registered models.

`SimpleTrainer` and its subclasses derive from `TrainerBase`. See `models.py` for the registered models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dassl import distributed
from dassl.data.seeds import mix_seed
from dassl.engine.models import RegisteredModels
from dassl.engine.resume import Loaded, load_matching, load_newest, replace_best
from dassl.utils.checkpoint_content import report_misfit
from dassl.utils.checkpoint_files import BEST, NEXT_BEST
from dassl.utils.tools import set_random_seed
from dassl.utils.torchtools import Checkpoint, find_checkpoint, restore, save_checkpoint

ParsedBatch = Any  # result of parse_batch_train, as forward_backward needs it; its type depends on the trainer


class TrainerBase(RegisteredModels):
    """The base class of trainers. It has the loop over epochs, the loop's hooks, and the checkpoints.

    A subclass must define at least `run_epoch`.
    """

    start_epoch: int
    max_epoch: int
    num_batches: int  # number of batches in an epoch
    loaded_epoch: int | None = None  # epoch of the checkpoint that `load_model` loaded, counted from 1
    val_results: Sequence[float] = ()  # results of all validations so far
    resumed: Loaded = []  # path and content of each model's checkpoint from which the training was resumed

    # ---- the loop ----

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Train from epoch `start_epoch` to epoch `max_epoch` - 1. Both are indices from 0."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        try:
            self.before_train()  # sets start_epoch if the run is resumed
            epoch = self.start_epoch
            while epoch < self.max_epoch:  # early stopping lowers max_epoch
                self.epoch = epoch
                self.seed_epoch()
                self.before_epoch()
                self.run_epoch()  # all batches
                self.end_epoch()
                self.after_epoch()  # validate and save
                epoch += 1
            self.after_train()
        finally:
            self.close_writer()  # the loggers also show how a training failed

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

    def stop_early(self) -> None:
        """Called if early stopping ends the training after this epoch, before the checkpoint. Does nothing by default.

        `max_epoch` is lowered already. `end_epoch` was called when it wasn't known that this epoch is the last one.
        """

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
                **({"val_results": list(self.val_results)} if self.val_results else {}),
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
