"""The training loop and the registry of trainers.

Trainers import the names below from here. Each name is loaded when it is first used, because it must be possible to
import `dassl.engine.run_folder` and the registry without torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dassl.engine.build import TRAINER_REGISTRY, build_trainer, get_trainer
    from dassl.engine.trainer import SimpleNet, SimpleTrainer, TrainerBase, TrainerX
    from dassl.engine.trainer_xu import TrainerXU

__all__ = [
    "TRAINER_REGISTRY",
    "SimpleNet",
    "SimpleTrainer",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
    "build_trainer",
    "get_trainer",
]


def __getattr__(name: str) -> object:
    """Load the names in `__all__` when they are first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "build" if name in ("TRAINER_REGISTRY", "build_trainer", "get_trainer") else "trainer"
    return getattr(importlib.import_module(f"dassl.engine.{module}"), name)
