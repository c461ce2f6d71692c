"""Functions that merge files and KEY VALUE pairs into a config, check a config, or compare it with another config.

`train.py` and `experiments/` call these functions. Every error message names the config key. If the value comes from a
file, the message also names the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import yaml
from yacs.config import CfgNode as CN

from dassl.config.checks import chooses_by_validation, decode, read_value
from dassl.config.defaults import get_cfg_default
from dassl.config.files import Setting, read_config_file
from dassl.config.nodes import types_of
from dassl.utils.checksums import check_comment
from dassl.utils.errors import InputError, unknown
from dassl.utils.typed import check_plain, shown
from dassl.utils.yaml_files import read_yaml

#: The types that a config value can have.
ConfigValue = bool | int | float | str | list | tuple | None


def keys(cfg: CN, prefix: str = "") -> Iterator[tuple[str, ConfigValue]]:
    """Yield ("NODE.KEY", value) for every key of a config."""
    for name, value in cfg.items():
        if isinstance(value, CN):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def merge_file(cfg: CN, path: str | Path, only: Sequence[str] = ()) -> None:
    """Merge a YAML file and the files that its `_BASE_` key names into `cfg`.

    Args:
        only: names of the top-level nodes to merge. If empty, all nodes are merged.

    Raises:
        InputError: if a file is missing or isn't valid YAML, if a key is unknown, or if a value has the wrong type.
    """
    merge_settings(cfg, read_config_file(path), only)


def merge_settings(cfg: CN, settings: Mapping[str, Setting], only: Sequence[str] = ()) -> None:
    """Merge settings that `read_config_file` returned into `cfg`. `only` has the same meaning as in `merge_file`.

    Raises:
        InputError: if a key is unknown or if a value has the wrong type.
    """
    for key, (value, file) in settings.items():
        if not only or key.split(".")[0] in only:
            _set(cfg, key, value, f" in {file}")


def merge_words(cfg: CN, words: Sequence[object]) -> None:
    """Merge ["KEY", value, "KEY", value, ...] into `cfg`.

    A value may be a string, as on the command line, or a Python value of the key's type.

    Raises:
        InputError: if a key has no value or is unknown, or if a value has the wrong type.
    """
    for key, value in pairs(words):
        _set(cfg, key, value, "")


def pairs(words: Sequence[object]) -> list[tuple[str, object]]:
    """Return ["KEY", value, "KEY", value, ...] as pairs (key, value). Raises InputError if a key has no value."""
    if len(words) % 2:
        raise InputError(f"config options come in pairs KEY VALUE, but {words[-1]!r} has no value")
    return [(str(key), value) for key, value in zip(words[::2], words[1::2], strict=True)]


def _set(cfg: CN, key: str, value: object, where: str) -> None:
    """Set a key of `cfg` to `value`, converted to the type that the key's description or its current value has.

    `where` is added to error messages. It is " in <file>", or "" if the value doesn't come from a file.
    """
    *nodes, name = key.split(".")
    node: object = cfg
    for part in nodes:
        node = node.get(part) if isinstance(node, CN) else None
    if not isinstance(node, CN) or name not in node or isinstance(node[name], CN):
        raise _unknown_key(cfg, key, where)
    kind = types_of(node).get(name)
    if kind is not None and _fits(node[name], kind):
        node[name] = read_value(value, kind, key, where)
    else:
        _set_by_example(cfg, key, value, node[name], where)


def _unknown_key(cfg: CN, key: str, where: str) -> InputError:
    known = [name for name, _ in keys(cfg)]
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        return InputError(
            f"config key {key}{where} holds other keys, so it has no value. Its keys: {', '.join(inside)}"
        )
    node = key.rpartition(".")[0]
    siblings = [name for name in known if name.rpartition(".")[0] == node] if node else []
    return unknown(f"config key{where}", key, siblings or sorted({name.split(".")[0] for name in known}))


def _fits(value: object, kind: type) -> bool:
    """Return whether a key's current value fits its description. If not, a plugin has redefined the key."""
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True


def _set_by_example(cfg: CN, key: str, value: object, old: object, where: str) -> None:
    """Set a key without a description, such as a third-party trainer's. The value must have the type of `old`."""
    new = decode(value)
    check_plain(new, key, where)
    if isinstance(old, str):
        # yacs evaluates strings as Python literals, so quote the value: "1" must stay a string.
        new = repr("" if value is None else str(value))
    try:
        if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
            new = float(new)  # yacs rejects an int for a float key, such as `OPTIM.LR 1`
        cfg.merge_from_list([key, new])
    except (ValueError, AssertionError, OverflowError) as error:
        expected = type(old).__name__
        raise InputError(
            f"config key {key} needs a value of type {expected}, such as {old!r}, not {shown(value)}{where}"
        ) from error


#: Keys that don't affect a result. Two configs that differ only in these keys describe the same run. TRAIN.VAL_FREQ is
#: such a key, too, unless validations choose the model or stop the training.
NEUTRAL = (
    "PROTOCOL",
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "DATASET.ROOT",
    "DATASET.CONFIG",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.DECODED_GB",
    "TEST.CACHE_FEATURES",
    "TEST.CACHE_IMAGES",
    "TRAINER.CUDA_GRAPH",
    "TRAINER.TEXT_ATTENTION",
    "TRAINER.TEXT_CHUNK",
    "TRAIN.LOGGERS",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
)


def read_saved_config(path: str | Path) -> CN:
    """Return the content of a run's config.yaml. It may lack keys that are newer than the run.

    Raises:
        InputError: if the file isn't a config, or if it is damaged.
    """
    content = read_yaml(path, check_comment)
    try:
        return CN(content)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} can't be read as a run's config: {' '.join(str(error).split())}") from error


def differing(cfg: CN, path: str | Path, nodes: Sequence[str] = ()) -> dict[str, tuple[ConfigValue, ConfigValue]]:
    """Compare `cfg` with the config.yaml of an earlier run. Return {key: (value in the file, value in cfg)}.

    NEUTRAL keys are ignored. A key that is missing from the file may have been added to the code after the run, so its
    value in `cfg` is compared with the key's default. The default config doesn't contain the keys of plugins. If a
    plugin's key is missing from the file, the key is ignored, so that a new plugin doesn't make old runs different.

    Args:
        path: the config.yaml of the earlier run.
        nodes: names of the top-level nodes to compare. If empty, all nodes are compared.

    Raises:
        InputError: if the file isn't a config, or if it is damaged.
    """
    earlier = dict(keys(read_saved_config(path)))
    defaults = dict(keys(get_cfg_default()))
    found = {}
    neutral = NEUTRAL if chooses_by_validation(cfg) else (*NEUTRAL, "TRAIN.VAL_FREQ")
    for key, value in keys(CN(yaml.safe_load(cfg.dump()))):
        if key in neutral or (nodes and key.split(".")[0] not in nodes):
            continue
        before = earlier.get(key, defaults.get(key, value))
        if _tuples_as_lists(before) != _tuples_as_lists(value):
            found[key] = (before, value)
    return found


def differences(cfg: CN, path: str | Path, nodes: Sequence[str] = ()) -> list[str]:
    """Like `differing`, but return a text for each key that differs, with both values."""
    return [
        f"{key} ({before!r} in the file, {now!r} now)" for key, (before, now) in differing(cfg, path, nodes).items()
    ]


def _tuples_as_lists(value: object) -> object:
    """Return `value` with every tuple, at any depth, replaced by a list. YAML has no tuples."""
    return [_tuples_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
