"""Merging files and words into a config, with errors that name the key, and comparing two configs."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode as CN

from dassl.config.defaults import get_cfg_default
from dassl.utils.errors import InputError, unknown


def keys(cfg: CN, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every ("NODE.KEY", value) of a config."""
    for name, value in cfg.items():
        if isinstance(value, CN):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def merge_file(cfg: CN, path: str | Path, only: Sequence[str] = ()) -> None:
    """Merge a YAML file into `cfg`; with `only`, just these top-level nodes of it.

    Raises:
        InputError: no such file, no YAML, an unknown key, or a value of another type; names the key.
    """
    path = Path(path)
    if not path.is_file():
        raise unknown("config file", str(path), [str(p) for p in path.parent.glob("*.yaml")])
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold KEY: value lines")
    if only:
        content = {name: value for name, value in content.items() if name in only}
    for key, value in keys(CN(content)):
        _set(cfg, key, value, f" in {path}")


def merge_words(cfg: CN, words: Sequence) -> None:
    """Merge ["KEY", "VALUE", ...] as given on a command line (a value may be one of Python's already).

    Raises:
        InputError: a key without a value, an unknown key, or a value of another type.
    """
    if len(words) % 2:
        raise InputError(f"config options come in pairs KEY VALUE, but {words[-1]!r} stands alone")
    for key, value in zip(words[::2], words[1::2], strict=True):
        _set(cfg, key, value, "")


def _set(cfg: CN, key: str, value: Any, where: str) -> None:
    known = dict(keys(cfg))
    if key not in known:
        node = key.rpartition(".")[0]
        siblings = [name for name in known if name.rpartition(".")[0] == node] if node else []
        raise unknown(f"config key{where}", key, siblings or sorted({name.split(".")[0] for name in known}))
    old = known[key]
    new = _decode(value)
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        new = float(new)  # yacs would refuse `OPTIM.LR 1`
    if isinstance(old, str):
        new = repr("" if value is None else str(value))  # yacs evaluates texts: this one may look like a number
    try:
        cfg.merge_from_list([key, new])
    except (ValueError, AssertionError) as error:
        kind = type(old).__name__
        raise InputError(f"config key {key} takes a {kind} like {old!r}, not {value!r}{where}") from error


def _decode(value: Any) -> Any:
    """Python value of a text, the text itself where it is none."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


#: Least values of numbers that would otherwise fail somewhere deep.
_LEAST = {
    "OPTIM.LR": 0,
    "OPTIM.MAX_EPOCH": 0,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.DECODED_GB": 0,
    "DATALOADER.K_TRANSFORMS": 1,
    "DATALOADER.TRAIN_X.BATCH_SIZE": 1,
    "DATALOADER.TEST.BATCH_SIZE": 1,
    "TRAIN.PRINT_FREQ": 1,
}


def check_values(cfg: CN) -> None:
    """Raise InputError for numbers out of range; names the key."""
    values = dict(keys(cfg))
    for key, least in _LEAST.items():
        if values[key] < least:
            raise InputError(f"{key} must be at least {least}, not {values[key]}")
    if len(cfg.INPUT.SIZE) != 2:
        raise InputError(f"INPUT.SIZE must be (height, width), not {tuple(cfg.INPUT.SIZE)}")


#: Keys that can't change a result: two runs that differ in them alone are the same run.
NEUTRAL = (
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "DATASET.ROOT",
    "DATASET.CONFIG",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.DECODED_GB",
    "TEST.CACHE_FEATURES",
    "TEST.CACHE_IMAGES",
    "TRAINER.TEXT_CHUNK",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
)


def differences(cfg: CN, path: str | Path, nodes: Sequence[str] = ()) -> list[str]:
    """Keys (with both values) in which `cfg` and the config file `path` differ, NEUTRAL ones aside.

    Nodes under TRAINER that belong to other trainers don't count: a new plugin must not make old runs foreign.
    `nodes` keeps to these top-level nodes.
    """
    with open(path) as file:
        try:
            theirs = dict(keys(CN(yaml.safe_load(file) or {})))
        except (yaml.YAMLError, ValueError, AttributeError) as error:
            raise InputError(f"{path} can't be read as a run's config: {error}") from error
    before = dict(keys(get_cfg_default()))  # what a key that is newer than the file was, in effect
    found = []
    for key, value in keys(CN(yaml.safe_load(cfg.dump()))):
        if key in NEUTRAL or (nodes and key.split(".")[0] not in nodes):
            continue
        there = theirs.get(key, before.get(key, value))
        if _plain(there) != _plain(value):
            found.append(f"{key} ({there!r} there, {value!r} now)")
    return found


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML knows no others."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
