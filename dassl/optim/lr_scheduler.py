"""Learning rate schedules, by epoch, with Dassl's way of stepping through the warm-up."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from dassl.utils.errors import unknown


class _WarmupScheduler(LRScheduler):
    """Runs its own rates for `warmup_epoch` epochs, then the successor's.

    The successor doesn't move during the warm-up, nor when it is handed the lead: with one epoch of warm-up, cosine
    and MAX_EPOCH = T, the rates are cons, lr(0), lr(1), ... lr(T - 2), so zero is never reached. The published
    numbers were trained so.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer)

    def warmup_lrs(self) -> list[Any]:
        raise TypeError("a warm-up says its rates")

    def get_lr(self) -> list[Any]:
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return self.warmup_lrs()

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step()
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step()

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the successor's state in the place of the successor."""
        state = {key: value for key, value in vars(self).items() if key not in ("optimizer", "successor")}
        plain = {key: value for key, value in state.items() if not callable(value)}
        return plain | {"successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.successor.load_state_dict(state.pop("successor"))
        self.__dict__.update(state)


class ConstantWarmupScheduler(_WarmupScheduler):
    """Every group at `cons_lr` during the warm-up."""

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, cons_lr: float):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def warmup_lrs(self) -> list[Any]:
        return [self.cons_lr] * len(self.base_lrs)


class LinearWarmupScheduler(_WarmupScheduler):
    """`min_lr` in the first epoch, then up to the base rate in a straight line."""

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, min_lr: float):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def warmup_lrs(self) -> list[Any]:
        if self.last_epoch == 0:
            return [self.min_lr] * len(self.base_lrs)
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: Any) -> LRScheduler:
    """The schedule that `optim_cfg` (the OPTIM node) names: single_step, multi_step or cosine, behind its warm-up.

    Raises:
        InputError: an unknown LR_SCHEDULER or WARMUP_TYPE.
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
