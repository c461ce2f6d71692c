"""Builds the config of a `Run`. Chooses the config files, and merges all sources of config values in a fixed order.

`execute.py`, `plan.py` and train.py call `resolve`, which imports torch. `known_value` and `known_text` return the
value of a single config key and don't import torch, so `checks.py` can call both before torch is imported. To choose
the trainer's config file, they read the trainer's class attributes from its source file (`dassl/utils/outlines.py`).
"""

import functools
from collections.abc import Container, Mapping
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import (
    ConfigValue,
    Setting,
    check_setting,
    check_values,
    get_cfg_default,
    keys,
    merge_settings,
    merge_words,
    read_config_file,
)
from dassl.utils.checkpoint_files import saved_epochs
from dassl.utils.errors import InputError
from experiments.arguments import Run, stem
from experiments.classes import TRAINERS
from experiments.official_keys import translate_settings, translate_words
from experiments.protocols import PROTOCOLS
from experiments.third_party import extend, without_clashes

ROOT = Path(__file__).resolve().parents[1]


# ---- config files ----


def locate(path: str) -> str:
    """Return the path at which a config file is found.

    `path` may be relative to the current folder or to the project's folder. If both folders hold the file, the file in
    the current folder is used. If neither folder holds the file, `path` is returned unchanged.
    """
    in_project = ROOT / path
    return str(in_project) if path and not Path(path).exists() and in_project.is_file() else path


def settings_of(path: str) -> Mapping[str, Setting]:
    """Return the settings in a config file and its base files, as {"NODE.KEY": setting}. Returns {} if `path` is "".

    The result is cached. The file is read again only if the file's modification time has changed. Raises InputError if
    the file is missing or isn't a valid config file.
    """
    if not path:
        return {}
    file = Path(locate(path))
    return _read(file, file.stat().st_mtime_ns if file.is_file() else 0)


@functools.cache  # the modification time `mtime` is a part of the cache's key, so that a changed file is read again
def _read(file: Path, mtime: int) -> Mapping[str, Setting]:
    return read_config_file(file)


def dataset_file(name: str) -> str:
    """Return the path of a data set's config file. `name` is the file's name in configs/datasets/, such as "dtd"."""
    return str(ROOT / "configs" / "datasets" / f"{name}.yaml")


def default_config_file(trainer: type, protocol: str = "", dataset_file: str | Path = "", asked: str = "") -> str:
    """Return the path of the trainer's default config file. Returns "" if the trainer has no default.

    If the data set's config file names a backbone, and the trainer has a config file for this backbone, then the
    backbone's config file is used. For example, if the backbone is ViT-Mini/8, vit_mini8_cross_datasets.yaml is used
    instead of a file whose name ends with _cross_datasets, and vit_mini8.yaml is used instead of any other file.

    A trainer's default may be another trainer's config file, such as "CoOp/vit_b16_ep50". So a new trainer doesn't need
    a new config file.

    Args:
        trainer: the trainer's class, or an outline of the class.
        protocol: few_shot and cross_dataset use the trainer's config for this protocol, unless the trainer has none.
        dataset_file: path of the data set's config file; "" if there is no such file.
        asked: name of the config to use instead of the trainer's default; "" for the default.
    """
    name = asked or getattr(trainer, "default_config", "")  # third-party trainers may lack the attribute
    if protocol in ("few_shot", "cross_dataset") and not asked:
        name = getattr(trainer, f"{protocol}_config", "") or name
    owner, _, name = name.rpartition("/")
    folder = ROOT / "configs" / "trainers" / (owner or trainer.__name__)
    setting = settings_of(str(dataset_file)).get("MODEL.BACKBONE.NAME")
    backbone = str(setting.value).lower().replace("-", "_").replace("/", "") if setting else ""
    if backbone:
        suffixes = [file.stem.removeprefix(backbone) for file in folder.glob(f"{backbone}*.yaml")]
        fitting = [suffix for suffix in suffixes if name.endswith(suffix)]
        name = backbone + max(fitting, key=len) if fitting else name
    return str(folder / f"{name}.yaml") if name else ""


def config_of(run: Run) -> str:
    """Return the path of the trainer's config file for a run. Returns "" if the trainer has no config file."""
    return run.config or default_config_file(TRAINERS.find(run.trainer), dataset_file=run.dataset)


def config_name(run: Run) -> str:
    """Return the name of a run's config for folders and results, which is the config file's name and the variant."""
    name = stem(config_of(run))
    return f"{name or 'default'}_{run.variant}" if run.variant else name


def known_value(run: Run, key: str) -> object:
    """Return the value of one of Dassl's config keys for a run, with the key's type.

    The config isn't built, because this would import torch. Values that the trainer sets (`values_of`) are ignored.
    Raises InputError for a wrong value.
    """
    for given in (run.options, run.flags):
        if key in given:
            return check_setting(key, given[key])
    layers = [settings_of(config_of(run)), settings_of(run.dataset)]
    if key.startswith(("MODEL.", "INPUT.")):
        layers.reverse()
    for settings in layers:
        if key in settings:
            return settings[key].value
    return _defaults()[key]


@functools.cache
def _defaults() -> dict[str, ConfigValue]:
    """Return {key: default} of all keys that don't belong to a trainer."""
    return dict(keys(get_cfg_default()))


def known_text(run: Run, key: str) -> str:
    """Return the result of `known_value` as a string. Returns "" if the value is None."""
    value = known_value(run, key)
    return "" if value is None else str(value)


# ---- resolving ----


def resolve(run: Run) -> CfgNode:
    """Return the frozen config of a run.

    The sources are merged in this order. Later sources override earlier sources.

    1. the defaults, and the keys that the user's `extend_cfg` declares (--extend-cfg)
    2. the data set's file
    3. the trainer's file
    4. MODEL and INPUT from the data set's file again, because a data set may need another backbone and image size
    5. the values that the trainer sets for this data set and protocol (`values_of`)
    6. flags
    7. KEY VALUE pairs

    Raises:
        InputError: for an unknown trainer, file or key, or for a wrong value.
    """
    from dassl.engine import get_trainer
    from trainers.common.options import default_config

    cfg = default_config()
    check_trainer(run)
    trainer = get_trainer(run.trainer)
    clashes = extend(cfg, run.extend_cfg) if run.extend_cfg else set()
    _check_node(trainer, clashes, run.extend_cfg)
    dataset = without_clashes(settings_of(run.dataset), clashes, ROOT / "configs")
    config = run.config or default_config_file(trainer, dataset_file=run.dataset)
    merge_settings(cfg, dataset)
    known = dict(keys(cfg))
    own = without_clashes(settings_of(config), clashes, ROOT / "configs")
    merge_settings(cfg, translate_settings(trainer, own, known))
    merge_settings(cfg, dataset, only=("MODEL", "INPUT"))
    protocol = protocol_of(run, cfg.DATASET.SUBSAMPLE_CLASSES)
    overrides = translate_words(trainer, run.overrides, known)
    asked = cfg.clone()  # without the trainer's values, which depend on what the user asks for
    merge_words(asked, ["PROTOCOL", protocol, *overrides])
    flags = {
        "OUTPUT_DIR": run.output_dir,
        "SEED": run.seed,
        "PROTOCOL": protocol,
        "TRAINER.NAME": run.trainer,
        "DATASET.CONFIG": stem(run.dataset),
        "TRAINER.CONFIG": config_name(run),
        "TEST.LOAD_EPOCH": last_epoch(run.trained_in) if run.trained_in else None,
        **run.flags,
    }
    given = {key: value for key, value in flags.items() if value not in (None, "")}
    for layer in (values_of(trainer, asked), given):
        merge_words(cfg, [word for pair in layer.items() for word in pair])
    merge_words(cfg, overrides)
    check_values(cfg)
    cfg.freeze()
    return cfg


def _check_node(trainer: type, clashes: Container[str], extension: str) -> None:
    """Raise InputError if a user's `extend_cfg` changes keys that one of this project's trainers reads."""
    from trainers.common.options import node_of
    from trainers.common.trainer import PromptTrainer

    if issubclass(trainer, PromptTrainer):
        node = f"TRAINER.{node_of(trainer)}"
        changed = [key for key in trainer.options.node() if f"{node}.{key}" in clashes]
        if changed:
            raise InputError(
                f"extend_cfg in {extension} changes {node}.{changed[0]}, which the trainer {trainer.__name__} needs. "
                "Leave --extend-cfg out"
            )


def check_trainer(run: Run) -> None:
    """Raise InputError if --trainer is missing or unknown, or if the KEY VALUE pairs set TRAINER.NAME."""
    if not run.trainer or "TRAINER.NAME" in run.options:
        raise InputError(
            f"choose a trainer with --trainer, not with TRAINER.NAME. Trainers: {', '.join(TRAINERS.names())}"
        )
    TRAINERS.find(run.trainer)


def protocol_of(run: Run, subsample_classes: str) -> str:
    """Return the value of the config key PROTOCOL for a run, which is base2new, few_shot, cross_dataset or "".

    If the user gives PROTOCOL as a KEY VALUE pair, that value is returned. Otherwise, if the run belongs to a protocol
    of `protocols.py`, the protocol's family is returned. If train.py was called directly, the result is base2new for a
    run that uses only base classes or only new classes, and "" for any other run.

    Args:
        run: the run.
        subsample_classes: value of DATASET.SUBSAMPLE_CLASSES in the config files, which is all, base or new.
    """
    if run.protocol:
        default = PROTOCOLS[run.protocol].family
    else:
        classes = run.options.get("DATASET.SUBSAMPLE_CLASSES", subsample_classes)
        default = "base2new" if classes in ("base", "new") else ""
    return run.options.get("PROTOCOL", default)


def values_of(trainer: type, cfg: CfgNode) -> dict[str, object]:
    """Return the config values that the trainer sets for a run, as {config key: value}.

    A trainer defines these values in its method `values(dataset, protocol, shots)`. The arguments are the values of
    DATASET.NAME, PROTOCOL and DATASET.NUM_SHOTS in `cfg`. Returns {} for a trainer without this method, for example a
    trainer that was written for the original Dassl.
    """
    values = getattr(trainer, "values", None)
    return dict(values(cfg.DATASET.NAME, cfg.PROTOCOL, cfg.DATASET.NUM_SHOTS)) if callable(values) else {}


def last_epoch(folder: str) -> int | None:
    """Return the last epoch whose checkpoint is in a run's folder. Returns None if the folder has no checkpoint."""
    return max((epoch for part in Path(folder).glob("*") for epoch in saved_epochs(part)), default=None)
