"""Trainers by name."""

from typing import Any

from dassl.utils.plugins import find
from dassl.utils.registry import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def get_trainer(name: str) -> Any:
    """The trainer class of that name. Raises InputError (a ValueError) for an unknown one."""
    return find(TRAINER_REGISTRY, "trainer", name)


def build_trainer(cfg: Any) -> Any:
    """The trainer that TRAINER.NAME names, built: data loaded, model made."""
    trainer = get_trainer(cfg.TRAINER.NAME)
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return trainer(cfg)
