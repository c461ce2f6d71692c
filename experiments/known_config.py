"""Checks the config of a run and predicts its result's fields, without importing torch.

`plan.py` uses this module, so that a plan of hundreds of runs is quick. The config itself is built by
`config.resolve`, which imports all trainers.
"""

import functools
import sys
from dataclasses import replace

from yacs.config import CfgNode

from dassl.config import check_values, merge_settings, merge_words
from dassl.engine.run_folder import own_data_name
from dassl.utils.errors import InputError
from dassl.utils.option_outlines import defines_function, read_options
from dassl.utils.outlines import registered_names
from experiments.arguments import Run, stem
from experiments.classes import DATASETS, TRAINERS
from experiments.config import config_name, config_of, dataset_file, known_text, known_value, settings_of
from experiments.protocols import PROTOCOLS
from experiments.run import source_of
from trainers.common.options import base_config, default_config, node_of


class ConfigChecker:
    """Checks the configs of many runs. What several runs share, such as a config file, is checked only once."""

    def __init__(self) -> None:
        self.default = known_default()
        self._errors: dict[object, str] = {}  # {file, or tuple of KEY VALUE words: message of its error, or ""}

    def check(self, run: Run) -> None:
        """Raise InputError if a config file or a KEY VALUE pair of the run has an unknown key or a wrong value.

        Values that contradict each other aren't found. `config.resolve` finds them when the run starts.
        """
        words = tuple(word for pair in run.options.items() if pair[0] != "SEED" for word in pair)
        for item in (run.dataset, config_of(run), words):
            if item not in self._errors:
                self._errors[item] = self._error(item)
            if self._errors[item]:
                raise InputError(self._errors[item])
        if len(run.overrides) % 2:
            merge_words(self.default, run.overrides[-1:])  # raises InputError

    def _error(self, item: str | tuple[str, ...]) -> str:
        cfg = self.default.clone()
        try:
            if isinstance(item, str):
                merge_settings(cfg, settings_of(item))
            else:
                merge_words(cfg, item)
            check_values(cfg)
        except InputError as error:
            return str(error)
        return ""


def known_default() -> CfgNode:
    """Return the default config with the nodes of all trainers.

    The trainers' options are read from their source files. Only if that is impossible, all trainers are imported.
    """
    if "trainers.common.trainer" not in sys.modules:  # if the trainers are imported, nothing is saved
        cfg = _read_from_sources()
        if cfg is not None:
            return cfg
    return default_config()


@functools.cache
def _read_from_sources() -> CfgNode | None:
    """Return the default config, or None if a trainer's options can't be read from its source file."""
    names = registered_names(TRAINERS.folder, TRAINERS.registry)
    if names is None or any(defines_function(plugins.folder, "extend_cfg") for plugins in (TRAINERS, DATASETS)):
        return None
    cfg = base_config()
    for name in names:
        options = read_options(TRAINERS.folder, TRAINERS.registry, name)
        outline = TRAINERS.outline(name)
        if options is None or outline is None:
            return None
        if options:
            cfg.TRAINER[node_of(outline.cls)] = CfgNode(options)
    return cfg


# ---- fields of results ----


def known_fields(protocol: str, run: Run) -> dict[str, object]:
    """Return the fields of result.json that are known before the run, so that the report can list missing runs."""
    learns = getattr(TRAINERS.find(run.trainer), "checkpoints", True)  # third-party trainers may lack this attribute
    label = source = known_label(run)
    if protocol == "xd_test":
        source = known_label(replace(run, dataset=dataset_file(source_of(run.dataset)), overrides=()))
    options = run.options
    return {
        "dataset": label,
        "trained_on": source if learns else "",
        "test_only": getattr(DATASETS.find(known_text(run, "DATASET.NAME")), "test_only", False),
        "subsample_classes": options["DATASET.SUBSAMPLE_CLASSES"],
        "trainer": run.trainer,
        "backbone": known_text(run, "MODEL.BACKBONE.NAME"),
        "config": config_name(run),
        "protocol": PROTOCOLS[run.protocol].family,
        "shots": int(known_text(run, "DATASET.NUM_SHOTS")),
        "seed": int(options.get("SEED", run.seed)),
    }


def known_label(run: Run) -> str:
    """Return the name that results use for the run's data set, like `dataset_label`, without building the config."""
    path = known_text(run, "DATASET.PATH")
    if path:
        return own_data_name(path, known_text(run, "DATASET.LABEL"))
    return stem(run.dataset) if known_value(run, "DATASET.TASKS") else known_text(run, "DATASET.NAME")
