"""Data sets by name."""

from dassl.utils.plugins import find
from dassl.utils.registry import Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """The data set that DATASET.NAME names. Raises InputError (a ValueError) for an unknown name."""
    dataset = find(DATASET_REGISTRY, "data set (DATASET.NAME)", cfg.DATASET.NAME)
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return dataset(cfg)
