"""Data sets, transforms, samplers and loaders.

Trainers and scripts import the three names below from here. They are loaded when they are first used, because they
import torch, and it must be possible to import `dassl.data.datasets` without torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dassl.data.data_manager import DataManager, DatasetWrapper, build_data_loader

__all__ = ["DataManager", "DatasetWrapper", "build_data_loader"]


def __getattr__(name: str) -> object:
    """Load the names in `__all__` from `data_manager` when they are first used (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module("dassl.data.data_manager"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
