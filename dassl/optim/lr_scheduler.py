"""Learning rate schedules that step once per epoch, and a warm-up as in Dassl. Trainers call `build_lr_scheduler`.

A warm-up scheduler wraps another schedule, called its successor, which sets the learning rates after the warm-up.
Unlike torch's `SequentialLR`, a warm-up scheduler doesn't step the successor when the warm-up ends. The published
results were obtained with this behaviour, so it must not change.
"""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR
from yacs.config import CfgNode

from dassl.utils.errors import unknown


class _WarmupScheduler(LRScheduler):
    """A schedule that starts with `warmup_epoch` warm-up epochs. After them, the successor sets the learning rates.

    The successor then starts at its epoch 0. For example, let the warm-up be constant and last one epoch, and let the
    successor be a cosine schedule lr(e). The learning rates of T = MAX_EPOCH epochs are then cons_lr, lr(0), lr(1),
    ..., lr(T - 2). The final learning rate of the cosine schedule, lr(T) = 0, is never reached.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer)

    def warmup_lrs(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group in the current epoch of the warm-up."""
        raise TypeError(f"{type(self).__name__} must define warmup_lrs")

    def get_lr(self) -> list[float | Tensor]:
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return self.warmup_lrs()

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step()
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step()

    def state_dict(self) -> dict[str, object]:
        """Return the state as plain values. The entry "successor" contains the successor's state dict."""
        state = {key: value for key, value in vars(self).items() if key not in ("optimizer", "successor")}
        plain = {key: value for key, value in state.items() if not callable(value)}
        return plain | {"successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        state = dict(state_dict)
        self.successor.load_state_dict(state.pop("successor"))
        self.__dict__.update(state)


class ConstantWarmupScheduler(_WarmupScheduler):
    """A warm-up in which all parameter groups have the constant learning rate `cons_lr`."""

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, cons_lr: float):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def warmup_lrs(self) -> list[float | Tensor]:
        return [self.cons_lr] * len(self.base_lrs)


class LinearWarmupScheduler(_WarmupScheduler):
    """A warm-up whose learning rate rises linearly.

    The learning rate is `min_lr` in epoch 0, and base rate * e / `warmup_epoch` in each later warm-up epoch e.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, min_lr: float):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def warmup_lrs(self) -> list[float | Tensor]:
        if self.last_epoch == 0:
            return [self.min_lr] * len(self.base_lrs)
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Return the schedule that LR_SCHEDULER names: single_step, multi_step or cosine.

    If WARMUP_EPOCH > 0, the schedule starts with a warm-up.

    Args:
        optimizer: the optimiser whose learning rates the schedule sets.
        optim_cfg: the OPTIM node of the config.

    Raises:
        InputError: LR_SCHEDULER or WARMUP_TYPE is unknown.
    """
    epochs, steps = optim_cfg.MAX_EPOCH, optim_cfg.STEPSIZE
    builders = {
        "single_step": lambda: StepLR(optimizer, steps[-1] if steps[-1] > 0 else epochs, optim_cfg.GAMMA),
        "multi_step": lambda: MultiStepLR(optimizer, steps, optim_cfg.GAMMA),
        "cosine": lambda: CosineAnnealingLR(optimizer, epochs),
    }
    if optim_cfg.LR_SCHEDULER not in builders:
        raise unknown("schedule (OPTIM.LR_SCHEDULER)", optim_cfg.LR_SCHEDULER, builders)
    scheduler = builders[optim_cfg.LR_SCHEDULER]()
    warmup = optim_cfg.WARMUP_EPOCH
    if warmup <= 0:
        return scheduler
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = warmup
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_CONS_LR)
    if optim_cfg.WARMUP_TYPE == "linear":
        return LinearWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_MIN_LR)
    raise unknown("warm-up (OPTIM.WARMUP_TYPE)", optim_cfg.WARMUP_TYPE, ("constant", "linear"))
