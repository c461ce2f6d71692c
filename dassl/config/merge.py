"""Functions that merge files and KEY VALUE pairs into a config, check a config, or compare it with another config.

`train.py` and `experiments/` call these functions. Every error message names the config key. If the value comes from a
file, the message also names the file.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from yacs.config import CfgNode as CN

from dassl.config.defaults import get_cfg_default
from dassl.config.files import Setting, read_config_file
from dassl.utils.checksums import check_comment
from dassl.utils.errors import InputError, unknown

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
    if len(words) % 2:
        raise InputError(f"config options come in pairs KEY VALUE, but {words[-1]!r} has no value")
    for key, value in zip(words[::2], words[1::2], strict=True):
        _set(cfg, str(key), value, "")


def _set(cfg: CN, key: str, value: object, where: str) -> None:
    """Set a key of `cfg` to `value`, converted to the type of the key's current value.

    `where` is added to error messages. It is " in <file>", or "" if the value doesn't come from a file.
    """
    known = dict(keys(cfg))
    if key not in known:
        node = key.rpartition(".")[0]
        siblings = [name for name in known if name.rpartition(".")[0] == node] if node else []
        raise unknown(f"config key{where}", key, siblings or sorted({name.split(".")[0] for name in known}))
    old = known[key]
    new = _decode(value)
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        new = float(new)  # yacs rejects an int for a float key, such as `OPTIM.LR 1`
    if isinstance(old, str):
        # yacs evaluates strings as Python literals, so quote the value: "1" must stay a string.
        new = repr("" if value is None else str(value))
    try:
        cfg.merge_from_list([key, new])
    except (ValueError, AssertionError) as error:
        expected = type(old).__name__
        raise InputError(
            f"config key {key} needs a value of type {expected}, such as {old!r}, not {value!r}{where}"
        ) from error


def _decode(value: object) -> object:
    """Parse a string that contains a Python literal, such as "(2, 3)". Return any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


#: The smallest allowed value of each key. Without this check, the run would fail much later, and the error wouldn't
#: name the key.
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
    """Check that the config's numbers aren't too small. Call this function after the last merge.

    Raises:
        InputError: if a number is too small, or if INPUT.SIZE isn't a pair.
    """
    values = dict(keys(cfg))
    for key, least in _LEAST.items():
        value = values[key]
        if isinstance(value, int | float) and value < least:
            raise InputError(f"{key} must be at least {least}, not {value}")
    if len(cfg.INPUT.SIZE) != 2:
        raise InputError(f"INPUT.SIZE must be (height, width), not {tuple(cfg.INPUT.SIZE)}")


#: Keys that don't affect a result. Two configs that differ only in these keys describe the same run.
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
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
)


def read_saved_config(path: str | Path) -> CN:
    """Return the content of a run's config.yaml. It may lack keys that are newer than the run.

    Raises:
        InputError: if the file isn't a config, or if it is damaged.
    """
    try:
        text = check_comment(Path(path).read_text(encoding="utf-8"), path)
        return CN(yaml.safe_load(text) or {})
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, AttributeError) as error:
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
    for key, value in keys(CN(yaml.safe_load(cfg.dump()))):
        if key in NEUTRAL or (nodes and key.split(".")[0] not in nodes):
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
