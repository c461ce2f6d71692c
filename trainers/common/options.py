"""The options of a method. The method's file declares them as a frozen dataclass, which becomes a config node.

Trainers and `experiments/` call `default_config` to get the config with the nodes of all methods. A trainer calls
`Options.read` to get its options from a resolved config. So users can set options in YAML files or as KEY VALUE pairs,
and the method gets typed fields.
"""

import dataclasses
from pathlib import Path
from typing import Self

from yacs.config import CfgNode

from dassl.config import get_cfg_default, keys, merge_settings, read_config_file
from dassl.engine.build import TRAINER_REGISTRY
from dassl.utils.plugins import extend_config, load_plugins
from trainers.common.original_nodes import ORIGINAL_NODES

PRECISIONS = ("fp32", "fp16", "amp", "bf16")


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that every method has. The options class of a method inherits from this class.

    Field names are the config's keys, so they are in capitals. Every field needs a default.
    """

    PREC: str = "fp16"  # fp32, fp16, amp or bf16; on a CPU, fp16 and amp become fp32

    @classmethod
    def node(cls) -> CfgNode:
        """Return a config node that holds all fields with their default values."""
        return CfgNode({field.name: field.default for field in dataclasses.fields(cls)})

    @classmethod
    def read(cls, node: CfgNode) -> Self:
        """Read the options from a resolved config node. Keys that aren't fields are ignored."""
        return cls(**{field.name: node[field.name] for field in dataclasses.fields(cls)})


def node_of(trainer: type) -> str:
    """Return the name of a trainer's config node below TRAINER.

    The name is the attribute `node`. If `node` is "" or missing, as in third-party trainers, the name is the class name
    in capitals.
    """
    return getattr(trainer, "node", "") or trainer.__name__.upper()


def default_config() -> CfgNode:
    """Return the default config, with the nodes of all registered trainers and plugins.

    The nodes come from three sources: first `ORIGINAL_NODES`, then each trainer's options, then each plugin's
    `extend_cfg`. A later source overrides an earlier one.
    """
    cfg = get_cfg_default()
    plugins = [*load_plugins("trainers"), *load_plugins("datasets")]
    cfg.TRAINER.TEXT_CHUNK = 0  # number of class tokens that the text tower encodes at once; 0: all that fit in memory
    cfg.TRAINER.COMPILE = False  # True: use torch.compile for parts of the towers' blocks; see docs/speed.md
    for node, options in ORIGINAL_NODES.items():
        cfg.TRAINER[node] = CfgNode(options | {"PREC": "fp16"})
    for name in TRAINER_REGISTRY.registered_names():
        trainer = TRAINER_REGISTRY.get(name)
        declared = getattr(trainer, "options", None)  # third-party trainers may lack `options`, or use another type
        if isinstance(declared, type) and issubclass(declared, Options):
            cfg.TRAINER[node_of(trainer)] = declared.node()
    extend_config(cfg, plugins)
    return cfg


def run_config(folder: str | Path) -> CfgNode:
    """Return the config that a run saved in its folder. Raises InputError if the config is missing or invalid.

    A run with --extend-cfg has keys below TRAINER that aren't declared here, or have another type. Their values are
    read as they are, without the user's file.
    """
    cfg = default_config()
    settings = read_config_file(Path(folder) / "config.yaml")
    known = dict(keys(cfg))
    foreign = {
        key: setting.value
        for key, setting in settings.items()
        if key.startswith("TRAINER.") and (key not in known or type(known[key]) is not type(setting.value))
    }
    merge_settings(cfg, {key: setting for key, setting in settings.items() if key not in foreign})
    for key, value in foreign.items():
        *nodes, name = key.split(".")
        node = cfg
        for part in nodes:
            node = node.setdefault(part, CfgNode())
        node[name] = value
    return cfg
