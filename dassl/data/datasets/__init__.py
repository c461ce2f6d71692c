"""The base class of data sets and the registry of data sets. This package doesn't import torch."""

from dassl.data.datasets.base_dataset import DatasetBase, Datum, Task
from dassl.data.datasets.build import DATASET_REGISTRY, build_dataset

__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "Task", "build_dataset"]
