"""The options of a method. The method's file declares them as a frozen dataclass, which becomes a config node.

Trainers and `experiments/` call `default_config` to get the config with the nodes of all methods. A trainer calls
`Options.read` to get its options from a resolved config. So users can set options in YAML files or as KEY VALUE pairs,
and the method gets typed fields. A field's type may be `Annotated` with a range (see `dassl/config/nodes.py`). Then a
value out of the range is refused when the config is merged.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, Self

from msgspec import Meta
from yacs.config import CfgNode

from dassl.config import described_node, field_types, get_cfg_default, merge_file
from dassl.config.defaults import TrainerKeys
from dassl.engine.build import TRAINER_REGISTRY
from dassl.utils.plugins import extend_config, load_plugins
from dassl.utils.typed import convert
from trainers.common.original_nodes import ORIGINAL_NODES

Precision = Literal["fp32", "fp16", "amp", "bf16"]
#: Position of the class name in a prompt.
Position = Literal["end", "middle", "front"]


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that every method has. The options class of a method inherits from this class.

    Field names are the config's keys, so they are in capitals. Every field needs a default.
    """

    PREC: Precision = "fp16"  # on a CPU, fp16 and amp become fp32

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

    #: number of class tokens that the text tower encodes at once; 0: all that fit in memory
    TEXT_CHUNK: Annotated[int, Meta(ge=0, le=2**40)] = 0
    COMPILE: bool = False  # True: use torch.compile for parts of the towers' blocks; see docs/speed.md


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
    cfg.TRAINER = described_node(CommonKeys)
    for node, keys in ORIGINAL_NODES.items():
        cfg.TRAINER[node] = CfgNode(keys | {"PREC": "fp16"})
    for name in TRAINER_REGISTRY.registered_names():
        trainer = TRAINER_REGISTRY.get(name)
        options = getattr(trainer, "options", None)  # third-party trainers may lack `options`, or use another type
        if isinstance(options, type) and issubclass(options, Options):
            cfg.TRAINER[node_of(trainer)] = options.node()
    extend_config(cfg, plugins)
    return cfg


def run_config(folder: str | Path) -> CfgNode:
    """Return the config that a run saved in its folder. Raises InputError if the config is missing or invalid."""
    cfg = default_config()
    merge_file(cfg, Path(folder) / "config.yaml")
    return cfg
