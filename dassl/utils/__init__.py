"""Helpers that have the same names as in Dassl. Import them as `from dassl.utils import X`.

Each helper's module is imported when the helper is first used. A module that needs only `InputError` therefore doesn't
import torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dassl.utils.command_line import report_errors as report_errors
    from dassl.utils.devices import best_device as best_device
    from dassl.utils.devices import choose_device as choose_device
    from dassl.utils.devices import device_memory as device_memory
    from dassl.utils.devices import device_name as device_name
    from dassl.utils.errors import InputError as InputError
    from dassl.utils.errors import unknown as unknown
    from dassl.utils.files import cache_folder as cache_folder
    from dassl.utils.files import check_isfile as check_isfile
    from dassl.utils.files import listdir_nohidden as listdir_nohidden
    from dassl.utils.files import mkdir_if_missing as mkdir_if_missing
    from dassl.utils.files import read_json as read_json
    from dassl.utils.files import write_atomically as write_atomically
    from dassl.utils.files import write_json as write_json
    from dassl.utils.files import write_text as write_text
    from dassl.utils.logger import Logger as Logger
    from dassl.utils.logger import setup_logger as setup_logger
    from dassl.utils.meters import AverageMeter as AverageMeter
    from dassl.utils.meters import MetricMeter as MetricMeter
    from dassl.utils.plugins import find as find
    from dassl.utils.plugins import load_plugins as load_plugins
    from dassl.utils.registry import Registry as Registry
    from dassl.utils.tools import check_availability as check_availability
    from dassl.utils.tools import collect_env_info as collect_env_info
    from dassl.utils.tools import cpu_cores as cpu_cores
    from dassl.utils.tools import free_memory as free_memory
    from dassl.utils.tools import memory_limit as memory_limit
    from dassl.utils.tools import read_image as read_image
    from dassl.utils.tools import set_deterministic as set_deterministic
    from dassl.utils.tools import set_random_seed as set_random_seed
    from dassl.utils.tools import tolist_if_not as tolist_if_not
    from dassl.utils.tools import versions as versions
    from dassl.utils.torchtools import count_num_param as count_num_param
    from dassl.utils.torchtools import load_checkpoint as load_checkpoint
    from dassl.utils.torchtools import load_pretrained_weights as load_pretrained_weights
    from dassl.utils.torchtools import open_specified_layers as open_specified_layers
    from dassl.utils.torchtools import resume_from_checkpoint as resume_from_checkpoint
    from dassl.utils.torchtools import save_checkpoint as save_checkpoint
    from dassl.utils.unpickle import read_pickle as read_pickle

#: Modules of this package, each with the names that the module defines.
_MODULES = {
    "command_line": ("report_errors",),
    "devices": ("best_device", "choose_device", "device_name", "device_memory"),
    "errors": ("InputError", "unknown"),
    "files": (
        "cache_folder",
        "check_isfile",
        "listdir_nohidden",
        "mkdir_if_missing",
        "read_json",
        "write_atomically",
        "write_json",
        "write_text",
    ),
    "logger": ("Logger", "setup_logger"),
    "meters": ("AverageMeter", "MetricMeter"),
    "plugins": ("find", "load_plugins"),
    "registry": ("Registry",),
    "tools": (
        "check_availability",
        "collect_env_info",
        "cpu_cores",
        "free_memory",
        "memory_limit",
        "read_image",
        "set_deterministic",
        "set_random_seed",
        "tolist_if_not",
        "versions",
    ),
    "torchtools": (
        "count_num_param",
        "load_checkpoint",
        "load_pretrained_weights",
        "open_specified_layers",
        "resume_from_checkpoint",
        "save_checkpoint",
    ),
    "unpickle": ("read_pickle",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = list(_MODULE_OF)  # generated, so that `import *` offers every name


def __getattr__(name: str) -> object:
    """Import `name` from the module that defines it, and keep it as an attribute of this package for the next use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
