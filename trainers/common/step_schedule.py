"""The class `StepScheduleTrainer`, for methods whose learning rate changes after every step, such as CLIP-LoRA."""

import itertools
import math

from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from trainers.common.trainer import PromptTrainer


class StepScheduleTrainer(PromptTrainer):
    """A trainer whose learning rate follows half a cosine over all steps, without a warm-up.

    A subclass may limit the number of steps. The training then stops amid an epoch, and ignores OPTIM.MAX_EPOCH.
    """

    lr_per_step = True
    last_lr = 0.0  # the learning rate to which the cosine falls

    def step_limit(self) -> int:
        """Return the number of training steps. 0: all batches of OPTIM.MAX_EPOCH epochs."""
        return 0

    def steps_per_epoch(self) -> int:
        """Return the number of batches in a whole epoch."""
        return len(self.train_loader_x) if self.train_loader_x is not None else 1

    def build_schedule(self) -> LRScheduler:
        limit, per_epoch = self.step_limit(), self.steps_per_epoch()
        if limit:
            self.max_epoch = math.ceil(limit / per_epoch)
        return CosineAnnealingLR(self.optim, limit or max(1, self.max_epoch * per_epoch), eta_min=self.last_lr)

    def run_epoch(self) -> None:
        limit, per_epoch = self.step_limit(), self.steps_per_epoch()
        if not limit:
            super().run_epoch()
            return
        n_batches = min(per_epoch, limit - self.epoch * per_epoch)
        loader = self._present(self.train_loader_x, "training")
        self.run_batches(((batch,) for batch in itertools.islice(loader, n_batches)), n_batches, per_epoch)
