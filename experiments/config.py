"""From a `Run` to its config: which files are merged, in which order, and which class is meant by a name.

`execute.py`, the planner of sweeps and train.py call `resolve`. Names and paths are checked by `check_names` before
torch is imported: classes are read from their source files (`dassl/utils/outlines.py`).
"""

import functools
from collections.abc import Mapping
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import Setting, check_values, get_cfg_default, merge_settings, merge_words, read_config_file
from dassl.utils.errors import InputError
from experiments.arguments import Run, stem
from experiments.classes import TRAINERS
from experiments.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parents[1]


# ---- config files ----


def locate(path: str) -> str:
    """A config file's path: relative to the current folder, or else to the project's folder."""
    in_project = ROOT / path
    return str(in_project) if path and not Path(path).exists() and in_project.is_file() else path


def settings_of(path: str) -> Mapping[str, Setting]:
    """Settings of a config file and its bases, {"NODE.KEY": setting}. A file is read once, unless it changes.

    Raises InputError if the file is missing or no config file. An empty path has no settings.
    """
    if not path:
        return {}
    file = Path(locate(path))
    return _read(file, file.stat().st_mtime_ns if file.is_file() else 0)


@functools.cache
def _read(file: Path, mtime: int) -> Mapping[str, Setting]:
    return read_config_file(file)


def dataset_file(name: str) -> str:
    """Path of a data set's config file, by the name that the scripts take."""
    return str(ROOT / "configs" / "datasets" / f"{name}.yaml")


def default_config_file(
    trainer: type, cross_dataset: bool = False, dataset_file: str | Path = "", asked: str = ""
) -> str:
    """Path of the trainer's default config file. Empty if the trainer names none.

    If the data set's config file names a backbone, say ViT-Mini/8, the trainer's file for this backbone is preferred:
    vit_mini8.yaml, or vit_mini8_cross_datasets.yaml if the other name ends in the same way.

    A trainer may name another trainer's file: "CoOp/vit_b16_ep50". So a new method needs no YAML file.

    Args:
        trainer: the class, or its outline.
        cross_dataset: take the trainer's config for training on ImageNet and testing elsewhere, if it has one.
        asked: name of the config that is wanted instead of the trainer's default.
    """
    name = asked or getattr(trainer, "default_config", "")  # a third party's trainer lacks these attributes
    if cross_dataset and not asked:
        name = getattr(trainer, "cross_dataset_config", "") or name
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
    """Path of the trainer's config file for a run. Empty if there is none."""
    return run.config or default_config_file(TRAINERS.find(run.trainer), dataset_file=run.dataset)


def known_value(run: Run, key: str) -> object:
    """The value of a config key as far as it is known without the plugins' config nodes: text or a Python value."""
    if key in run.options:
        return run.options[key]
    if key in run.flags:
        return run.flags[key]
    layers = [settings_of(config_of(run)), settings_of(run.dataset)]
    if key.startswith(("MODEL.", "INPUT.")):
        layers.reverse()
    for settings in layers:
        if key in settings:
            return settings[key].value
    node = get_cfg_default()
    for part in key.split("."):
        node = node[part]
    return node


def known_text(run: Run, key: str) -> str:
    """`known_value` as a text. Empty for None."""
    value = known_value(run, key)
    return "" if value is None else str(value)


# ---- resolving ----


def resolve(run: Run) -> CfgNode:
    """The frozen config of a run.

    Later sources override earlier ones: defaults, the data set's file, the trainer's file, MODEL and INPUT of the data
    set's file again, the trainer's values for this data set and protocol, flags, KEY VALUE pairs. A data set's MODEL
    and INPUT override the trainer's, because a data set may come with a backbone and an image size.

    Raises:
        InputError: an unknown trainer, file or key, or a wrong value.
    """
    from dassl.engine import get_trainer
    from trainers.common.options import default_config

    cfg = default_config()
    check_trainer(run)
    trainer, dataset = get_trainer(run.trainer), settings_of(run.dataset)
    config = run.config or default_config_file(trainer, dataset_file=run.dataset)
    merge_settings(cfg, dataset)
    merge_settings(cfg, settings_of(config))
    merge_settings(cfg, dataset, only=("MODEL", "INPUT"))
    protocol = protocol_of(run, cfg.DATASET.SUBSAMPLE_CLASSES)
    values = values_of(trainer, run.options.get("DATASET.NAME", cfg.DATASET.NAME), protocol)
    name = stem(config)
    flags = {
        "OUTPUT_DIR": run.output_dir,
        "SEED": run.seed,
        "PROTOCOL": protocol,
        "TRAINER.NAME": run.trainer,
        "DATASET.CONFIG": stem(run.dataset),
        "TRAINER.CONFIG": f"{name or 'default'}_{run.variant}" if run.variant else name,
        "TEST.LOAD_EPOCH": last_epoch(run.trained_in) if run.trained_in else None,
        **run.flags,
    }
    set_flags = {key: value for key, value in flags.items() if value not in (None, "")}
    for layer in (values, set_flags):
        merge_words(cfg, [word for pair in layer.items() for word in pair])
    merge_words(cfg, run.overrides)
    check_values(cfg)
    cfg.freeze()
    return cfg


def check_trainer(run: Run) -> None:
    """Raise InputError unless --trainer names a trainer."""
    if not run.trainer or "TRAINER.NAME" in run.options:
        raise InputError(f"say which trainer by --trainer (not by TRAINER.NAME): {', '.join(TRAINERS.names())}")
    TRAINERS.find(run.trainer)


def protocol_of(run: Run, subsample_classes: str) -> str:
    """The config key PROTOCOL of a run: base2new, few_shot, cross_dataset, or empty.

    A run that train.py starts directly belongs to base2new if it uses base or new classes.
    """
    if run.protocol:
        default = PROTOCOLS[run.protocol].family
    else:
        classes = run.options.get("DATASET.SUBSAMPLE_CLASSES", subsample_classes)
        default = "base2new" if classes in ("base", "new") else ""
    return run.options.get("PROTOCOL", default)


def values_of(trainer: type, dataset: str, protocol: str) -> dict[str, object]:
    """The trainer's config values for a data set (DATASET.NAME) and protocol: full config keys -> values.

    A trainer defines them in `values(dataset, protocol)`. Plain Dassl trainers have no such method, so no values.
    """
    values = getattr(trainer, "values", None)
    return dict(values(dataset, protocol)) if callable(values) else {}


def last_epoch(folder: str) -> int | None:
    """The last epoch whose checkpoint is in a run's folder. None if it has no checkpoint."""
    saved = (path.name.rpartition("-")[2] for path in Path(folder).glob("*/model.pth.tar-*"))
    return max((int(epoch) for epoch in saved if epoch.isdigit()), default=None)
