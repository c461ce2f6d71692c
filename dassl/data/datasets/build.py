"""The registry of data sets. The file of a data set registers its class, and `build_dataset` finds it by its name."""

from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import DatasetBase
from dassl.utils.plugins import find
from dassl.utils.registry import Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """Return an instance of the data set class that DATASET.NAME names.

    Raises:
        InputError: no such class is registered, or the data is missing.
    """
    dataset = find(DATASET_REGISTRY, "data set (DATASET.NAME)", cfg.DATASET.NAME)
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return dataset(cfg)
