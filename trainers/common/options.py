"""The options of a method: a frozen dataclass in the method's file, from which its config node is generated.

Trainers and `experiments/` call `default_config` for the tree of all nodes. A trainer calls `Options.read` to get its
options from a resolved config. YAML files and KEY VALUE pairs therefore keep working, and a method sees typed fields.
"""

import dataclasses
from pathlib import Path
from typing import Self

from yacs.config import CfgNode

from dassl.config import get_cfg_default, merge_file
from dassl.engine.build import TRAINER_REGISTRY
from dassl.utils.plugins import extend_config, load_plugins

PRECISIONS = ("fp32", "fp16", "amp", "bf16")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that every method has. A method's options inherit from this class.

    Field names are the config's keys, so they are in capitals. Every field needs a default.
    """

    PREC: str = "fp16"  # fp32, fp16, amp or bf16; a CPU computes fp16 and amp in fp32

    @classmethod
    def node(cls) -> CfgNode:
        """The config node with all fields at their defaults."""
        return CfgNode({field.name: field.default for field in dataclasses.fields(cls)})

    @classmethod
    def read(cls, node: CfgNode) -> Self:
        """The options that a resolved config node holds. Keys that aren't fields are ignored."""
        return cls(**{field.name: node[field.name] for field in dataclasses.fields(cls)})


#: The nodes that third-party trainers read although they are other methods' options: see `_add_original_nodes`.
ORIGINAL_NODES: dict[str, dict[str, object]] = {
    "COOP": {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "PREC": "fp16", "CLASS_TOKEN_POSITION": "end"},
    "COCOOP": {"N_CTX": 16, "CTX_INIT": "", "PREC": "fp16"},
    "MAPLE": {"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "fp16", "PROMPT_DEPTH": 9},
    "IVLP": {
        "N_CTX_VISION": 2,
        "N_CTX_TEXT": 2,
        "CTX_INIT": "a photo of a",
        "PREC": "fp16",
        "PROMPT_DEPTH_VISION": 9,
        "PROMPT_DEPTH_TEXT": 9,
    },
    "VPT": {"N_CTX_VISION": 2, "CTX_INIT": "a photo of a", "PREC": "fp16", "PROMPT_DEPTH_VISION": 1},
}


def node_of(trainer: type) -> str:
    """Name of a trainer's config node below TRAINER: its `node`, or else the class's name in capitals.

    The trainer may be a third party's, which has no `node`.
    """
    return getattr(trainer, "node", "") or trainer.__name__.upper()


def default_config() -> CfgNode:
    """The default config with the nodes of all registered trainers and plugins.

    Later sources override earlier ones: the original nodes, each trainer's options, each plugin's `extend_cfg`.
    """
    cfg = get_cfg_default()
    plugins = [*load_plugins("trainers"), *load_plugins("datasets")]
    cfg.TRAINER.TEXT_CHUNK = 0  # class tokens that the text tower encodes at once; 0: as many as memory allows
    cfg.TRAINER.COMPILE = False  # fuse parts of the towers' blocks by torch.compile: see docs/speed.md
    _add_original_nodes(cfg)
    for name in TRAINER_REGISTRY.registered_names():
        trainer = TRAINER_REGISTRY.get(name)
        options = getattr(trainer, "options", None)  # a third party's trainer has none, or one of another type
        if isinstance(options, type) and issubclass(options, Options):
            cfg.TRAINER[node_of(trainer)] = options.node()
    extend_config(cfg, plugins)
    return cfg


def _add_original_nodes(cfg: CfgNode) -> None:
    """Add the original CoOp and MaPLe nodes.

    A user may replace our coop.py by their own file, or drop in a trainer that reads TRAINER.COOP. The original
    train.py declares these nodes whatever the trainer, so they must exist without our method's file.
    """
    for name, keys in ORIGINAL_NODES.items():
        cfg.TRAINER[name] = CfgNode(dict(keys))


def run_config(folder: str | Path) -> CfgNode:
    """The config that a run saved in its folder. Raises InputError if it is missing or invalid."""
    cfg = default_config()
    merge_file(cfg, Path(folder) / "config.yaml")
    return cfg
