"""`RegisteredModels`: models that a trainer registers by name, each with its optimiser and schedule.

`TrainerBase` derives from it. It sets the mode of all registered models and steps their optimisers.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from dassl.engine.scalars import ScalarLog
from dassl.utils.errors import InputError
from dassl.utils.tools import tolist_if_not


class RegisteredModels(ScalarLog):
    """A base class with the models, optimisers and schedules of a trainer."""

    epoch: int = 0  # index of the current epoch, from 0
    batch_idx: int = 0  # index of the current batch in its epoch, from 0

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, torch.optim.Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, LRScheduler | None] = OrderedDict()

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
