"""Optimisers and learning rate schedules, built from the OPTIM node of the config."""

from dassl.optim.fused import TensorRates, capturable, is_fused, note_change
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler, build_lr_scheduler
from dassl.optim.optimizer import build_optimizer
from dassl.optim.radam import RAdam

__all__ = [
    "ConstantWarmupScheduler",
    "LinearWarmupScheduler",
    "RAdam",
    "TensorRates",
    "build_lr_scheduler",
    "build_optimizer",
    "capturable",
    "is_fused",
    "note_change",
]
