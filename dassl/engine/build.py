"""The registry of trainers, and functions that find or build a trainer by its name.

This module doesn't import torch.
"""

from typing import Any

from yacs.config import CfgNode

from dassl.utils.plugins import find
from dassl.utils.registry import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def get_trainer(name: str) -> Any:
    """Return the trainer class called `name`. Raises InputError (a ValueError) if there is no such class."""
    return find(TRAINER_REGISTRY, "trainer", name)


def build_trainer(cfg: CfgNode) -> Any:
    """Return the trainer that TRAINER.NAME names. Its constructor loads the data set and builds the model."""
    trainer = get_trainer(cfg.TRAINER.NAME)
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return trainer(cfg)
