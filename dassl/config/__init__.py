"""The default config, and functions that merge files and KEY VALUE pairs into a config or compare two configs.

`train.py`, `experiments/` and third-party code import the names below. No module of this package imports torch.
"""

from yacs.config import CfgNode

from dassl.config.checks import check_setting, check_values, chooses_by_validation
from dassl.config.defaults import get_cfg_default
from dassl.config.files import Setting, config_files, read_config_file
from dassl.config.merge import (
    ConfigValue,
    differences,
    differing,
    keys,
    merge_file,
    merge_settings,
    merge_words,
    pairs,
    read_saved_config,
)
from dassl.config.nodes import (
    ContextTokens,
    Count,
    Depth,
    Int64,
    NotNegative,
    Positive,
    Share,
    VisionTokens,
    Width,
    described,
    described_node,
    description_of,
    field_types,
    meaning_of,
)


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the nodes of all trainers except `trainer` from `cfg.TRAINER`. Changes `cfg` in place."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", "CONFIG", trainer.upper()):
            cfg.TRAINER.pop(key, None)


__all__ = [
    "ConfigValue",
    "ContextTokens",
    "Count",
    "Depth",
    "Int64",
    "NotNegative",
    "Positive",
    "Setting",
    "Share",
    "VisionTokens",
    "Width",
    "check_setting",
    "check_values",
    "chooses_by_validation",
    "clean_cfg",
    "config_files",
    "described",
    "described_node",
    "description_of",
    "differences",
    "differing",
    "field_types",
    "get_cfg_default",
    "keys",
    "meaning_of",
    "merge_file",
    "merge_settings",
    "merge_words",
    "pairs",
    "read_config_file",
    "read_saved_config",
]
