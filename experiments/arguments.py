"""Command lines: the one parser of train.py and of the protocols, and the `Run` that a command line becomes.

Nothing here imports torch or yacs, so `--help` and errors in flags come at once.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One training or one test: the content of its command line. Making it reads no file.

    `config.resolve` makes the config. Paths are as the user wrote them, and empty where the user gave none.
    """

    trainer: str
    dataset: str = ""  # path of the data set's config file
    config: str = ""  # path of the trainer's config file; empty: the trainer's default
    seed: int = -1
    protocol: str = ""  # a name in protocols.PROTOCOLS; empty: called by train.py directly
    variant: str = ""  # suffix of the config's name, for a run whose options make it another method
    output_dir: str = ""
    trained_in: str = ""  # folder of the training run whose last checkpoint a protocol tests
    flags: Mapping[str, object] = field(default_factory=dict)  # other flags: config key -> value
    overrides: tuple[str, ...] = ()  # KEY VALUE ...; of repeated keys the last value counts
    no_train: bool = False  # build everything, then stop

    @property
    def options(self) -> dict[str, str]:
        """The KEY VALUE pairs by key."""
        return dict(zip(self.overrides[::2], self.overrides[1::2], strict=False))


def parser() -> argparse.ArgumentParser:
    """The parser of train.py's flags and KEY VALUE pairs."""
    made = argparse.ArgumentParser(
        description="Train or test prompts of CLIP.", epilog="KEY VALUE pairs of the config may stand anywhere."
    )
    add = made.add_argument
    add("--root", default=os.environ.get("DATA", "data"), help="folder of the data sets (default: $DATA, or data)")
    add("--output-dir", default="", help="folder for log, checkpoints and result")
    add("--resume", default="", help="folder to resume from (default: the output folder)")
    add("--seed", type=int, default=-1, help="0 or greater; a negative seed leaves the run unseeded")
    add("--source-domains", nargs="+", help="source domains, for domain adaptation or generalisation")
    add("--target-domains", nargs="+", help="target domains, for domain adaptation or generalisation")
    add("--transforms", nargs="+", help="names of training transforms")
    add("--config-file", default="", help="the trainer's config file (default: the trainer's own choice)")
    add("--dataset-config-file", default="", help="the data set's config file")
    add("--trainer", default="", help="name of the trainer")
    add("--backbone", default="", help="name of the CLIP model: MODEL.BACKBONE.NAME")
    add("--head", default="", help="name of the head: MODEL.HEAD.NAME")
    add("--eval-only", action="store_true", help="test without training")
    add("--model-dir", default="", help="with --eval-only: folder of the prompts to test")
    add("--load-epoch", type=int, default=None, help="epoch of the prompts to test (default: the last one saved)")
    add("--no-train", action="store_true", help="build everything, then stop")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("opts", nargs="*", metavar="KEY VALUE", help="config options")
    return made


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the flags and KEY VALUE pairs of train.py, in any order. A later flag overrides an earlier one."""
    return parser().parse_intermixed_args(argv)


def run_of(args: argparse.Namespace) -> Run:
    """The run that parsed arguments of train.py ask for."""
    return Run(
        trainer=args.trainer,
        dataset=args.dataset_config_file,
        config=args.config_file,
        seed=args.seed,
        output_dir=args.output_dir,
        flags=flags_of(args),
        overrides=tuple(args.opts),
        no_train=args.no_train,
    )


def flags_of(args: argparse.Namespace) -> dict[str, object]:
    """The flags that set config keys and aren't fields of `Run`: config key -> value. Missing flags are left out."""
    flags = {
        "DATASET.ROOT": args.root,
        "RESUME": args.resume,
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms,
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
        "TEST.EVAL_ONLY": args.eval_only,
        "TEST.MODEL_DIR": args.model_dir,
        "TEST.LOAD_EPOCH": args.load_epoch,
    }
    return {key: value for key, value in flags.items() if value not in (None, "")}


def stem(path: str) -> str:
    """Name of a config file without folder and suffix. Empty for an empty path."""
    return Path(path).stem if path else ""
