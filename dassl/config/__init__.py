"""The default config, and functions that merge files and KEY VALUE pairs into a config or compare two configs.

`train.py`, `experiments/` and third-party code import the names below. No module of this package imports torch.
"""

from yacs.config import CfgNode

from dassl.config.defaults import get_cfg_default
from dassl.config.files import Setting, config_files, read_config_file
from dassl.config.merge import (
    ConfigValue,
    check_values,
    differences,
    differing,
    keys,
    merge_file,
    merge_settings,
    merge_words,
    read_saved_config,
)


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the nodes of all trainers except `trainer` from `cfg.TRAINER`. Changes `cfg` in place."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", "CONFIG", trainer.upper()):
            cfg.TRAINER.pop(key, None)


__all__ = [
    "ConfigValue",
    "Setting",
    "check_values",
    "clean_cfg",
    "config_files",
    "differences",
    "differing",
    "get_cfg_default",
    "keys",
    "merge_file",
    "merge_settings",
    "merge_words",
    "read_config_file",
    "read_saved_config",
]
