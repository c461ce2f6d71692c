"""Checks single config values against the description of their keys, and values that must fit together.

`files.py` and `merge.py` call these functions.
"""

import ast
import functools
import os

from msgspec import inspect
from yacs.config import CfgNode

from dassl.config.defaults import get_cfg_default
from dassl.config.nodes import types_of
from dassl.utils.errors import InputError
from dassl.utils.typed import convert


def check_setting(key: str, value: object, where: str = "") -> object:
    """Return the value of one of Dassl's keys, with the key's type. Return the value of any other key unchanged.

    Args:
        key: a config key such as "OPTIM.LR".
        value: the value as a file, a flag or the command line gives it.
        where: " in <file>", or "" if the value doesn't come from a file. Messages contain it.

    Raises:
        InputError: the value has the wrong type or is out of range. The message names the key and the allowed values.
    """
    kind = _dassl_types().get(key)
    return value if kind is None else read_value(value, kind, key, where)


def read_value(value: object, kind: type, name: str, where: str = "") -> object:
    """Return `value` as the type `kind`. A string may be a Python literal, such as "(2, 3)", unless `kind` is text.

    Raises:
        InputError: the value has the wrong type or is out of range. The message contains `name` and `where`.
    """
    return convert(_as_text(value, name, where) if _is_text(kind) else decode(value), kind, name, where)


def decode(value: object) -> object:
    """Parse a string that contains a Python literal, such as "(2, 3)". Return any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what odd strings make the parser raise
        return value


def check_values(cfg: CfgNode) -> None:
    """Check that the config's values fit together. Call this function after the last merge.

    Raises:
        InputError: if two values contradict each other. The message names both keys.
    """
    opts, optim = cfg.INPUT, cfg.OPTIM
    if opts.GB_K % 2 == 0:
        raise InputError(f"INPUT.GB_K must be odd, not {opts.GB_K}")
    if "gaussian_blur" in opts.TRANSFORMS and min(opts.SIZE) <= opts.GB_K // 2:
        raise InputError(f"INPUT.GB_K {opts.GB_K} is too large for images of INPUT.SIZE {tuple(opts.SIZE)}")
    if opts.RRCROP_SCALE[0] > opts.RRCROP_SCALE[1]:
        raise InputError(f"INPUT.RRCROP_SCALE must be (low, high), not {tuple(opts.RRCROP_SCALE)}")
    if cfg.TRAIN.PATIENCE and not cfg.TRAIN.VAL_FREQ and (cfg.TEST.FINAL_MODEL != "best_val" or cfg.TEST.NO_TEST):
        raise InputError(f"TRAIN.PATIENCE {cfg.TRAIN.PATIENCE} needs validations. Set TRAIN.VAL_FREQ to 1 or more")
    if optim.NAME == "sgd" and optim.SGD_NESTEROV and (optim.MOMENTUM == 0 or optim.SGD_DAMPNING != 0):
        raise InputError(
            f"OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM greater than 0 and OPTIM.SGD_DAMPNING 0, "
            f"not {optim.MOMENTUM} and {optim.SGD_DAMPNING}"
        )


def chooses_by_validation(cfg: CfgNode) -> bool:
    """Return whether validations affect the training's result: they choose the best model, or stop the training."""
    return cfg.TEST.FINAL_MODEL == "best_val" or cfg.TRAIN.PATIENCE > 0


def _as_text(value: object, name: str, where: str) -> object:
    """Convert null, whole numbers and paths to text. Values of other types stay as they are, and are refused later.

    YAML reads words such as `no` as False, and 1.10 as 1.1. Their text is lost, so they must be in quotes.
    """
    if isinstance(value, bool | float):
        raise InputError(f"{name} must be a string, not {value}{where}. Put the value in quotes")
    if value is None:
        return ""
    return str(value) if isinstance(value, int | os.PathLike) else value


def _is_text(kind: type) -> bool:
    info = inspect.type_info(kind)
    if isinstance(info, inspect.Metadata):
        info = info.type
    return isinstance(info, inspect.StrType | inspect.LiteralType)


@functools.cache
def _dassl_types() -> dict[str, type]:
    """Return {"NODE.KEY": type} for all keys of the default config."""
    return dict(_types(get_cfg_default(), ""))


def _types(node: CfgNode, prefix: str) -> list[tuple[str, type]]:
    found = [(prefix + name, kind) for name, kind in types_of(node).items() if not isinstance(node[name], CfgNode)]
    for name, value in node.items():
        if isinstance(value, CfgNode):
            found += _types(value, f"{prefix}{name}.")
    return found
