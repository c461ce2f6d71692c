"""Config: defaults, merging, comparing."""

from yacs.config import CfgNode

from dassl.config.defaults import get_cfg_default
from dassl.config.merge import check_values, differences, keys, merge_file, merge_words


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop, in place, the nodes of all trainers but `trainer` from `cfg.TRAINER`."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", "CONFIG", trainer.upper()):
            cfg.TRAINER.pop(key, None)


__all__ = ["check_values", "clean_cfg", "differences", "get_cfg_default", "keys", "merge_file", "merge_words"]
