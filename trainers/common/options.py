"""The options of a method. The method's file declares them as a frozen dataclass, which becomes a config node.

Trainers and `experiments/` call `default_config` to get the config with the nodes of all methods. A trainer calls
`Options.read` to get its options from a resolved config. So users can set options in YAML files or as KEY VALUE pairs,
and the method gets typed fields. A field's type may be `Annotated` with a range (see `dassl/config/nodes.py`). Then a
value out of the range is refused when the config is merged.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from msgspec import Meta
from yacs.config import CfgNode

from dassl.config import (
    described,
    described_node,
    field_types,
    get_cfg_default,
    keys,
    merge_settings,
    read_config_file,
    read_saved_config,
)
from dassl.config.defaults import TrainerKeys
from dassl.engine.build import TRAINER_REGISTRY
from dassl.utils.errors import InputError
from dassl.utils.plugins import extend_config, load_plugins
from dassl.utils.typed import convert
from trainers.common.original_nodes import ORIGINAL_NODES

Precision = Literal["fp32", "fp16", "amp", "bf16"]
PRECISIONS = get_args(Precision)
#: Position of the class name in a prompt.
Position = Literal["end", "middle", "front"]


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that every method has. The options class of a method inherits from this class.

    Field names are the config's keys, so they are in capitals. Every field needs a default. `described` adds a line
    that says what the key means, for docs/config.md.
    """

    PREC: Precision = described("fp16", "on a CPU, fp16 and amp become fp32")

    @classmethod
    def node(cls) -> CfgNode:
        """Return a config node that holds all fields with their default values."""
        return described_node(cls)

    @classmethod
    def read(cls, node: CfgNode) -> Self:
        """Read the options from a resolved config node. Keys that aren't fields are ignored.

        Raises:
            InputError: a value has the wrong type or is out of range.
        """
        values: dict[str, object] = {field.name: node[field.name] for field in dataclasses.fields(cls)}
        for name, kind in field_types(cls).items():
            values[name] = convert(values[name], kind, f"the option {name}")
        return cls(**values)  # type: ignore[arg-type]  # the types were checked above


@dataclasses.dataclass(frozen=True)
class CommonKeys(TrainerKeys):
    """The keys of TRAINER that don't belong to a method."""

    TEXT_CHUNK: Annotated[int, Meta(ge=0, le=2**40)] = described(
        0, "number of class tokens that the text tower encodes at once; 0: all that fit in memory"
    )
    TEXT_ATTENTION: Literal["auto", "padded", "by_length"] = described(
        "auto", "auto: the device decides; see docs/speed.md"
    )
    COMPILE: bool = described(False, "True: use torch.compile for parts of the towers' blocks; see docs/speed.md")
    CUDA_GRAPH: bool = described(False, "True: capture training steps as CUDA graphs on a CUDA GPU; see docs/speed.md")


def node_of(trainer: type) -> str:
    """Return the name of a trainer's config node below TRAINER.

    The name is the attribute `node`. If `node` is "" or missing, as in third-party trainers, the name is the class name
    in capitals.
    """
    return getattr(trainer, "node", "") or trainer.__name__.upper()


def base_config() -> CfgNode:
    """Return the default config with the nodes of the original code, but without the nodes of our trainers."""
    cfg = get_cfg_default()
    cfg.TRAINER = described_node(CommonKeys)
    for node, defaults in ORIGINAL_NODES.items():
        cfg.TRAINER[node] = CfgNode(defaults | {"PREC": "fp16"})
    return cfg


def default_config() -> CfgNode:
    """Return the default config, with the nodes of all registered trainers and plugins. Imports all plugins.

    The nodes come from three sources: first `ORIGINAL_NODES`, then each trainer's options, then each plugin's
    `extend_cfg`. A later source overrides an earlier one.
    """
    cfg = base_config()
    plugins = [*load_plugins("trainers"), *load_plugins("datasets")]
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
    cfg, file = default_config(), Path(folder) / "config.yaml"
    settings = read_config_file(file)
    if "VERSION" not in read_saved_config(file):  # the last key
        raise InputError(f"{file} is incomplete")
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
