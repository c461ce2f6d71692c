"""Defines the command-line parser of train.py, and the data class `Run`, which describes one training or one test.

`run.py`, which executes the protocols, uses the same parser. This module imports neither torch nor yacs, so that
`--help` and errors in flags are printed without a delay.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """Describes one training or one test, before any config file is read.

    `config.resolve` builds the config of a `Run`. A path may be relative, and is "" if no path was given.
    """

    trainer: str
    dataset: str = ""  # path of the data set's config file
    config: str = ""  # path of the trainer's config file; "" for the trainer's default file
    seed: int = -1  # negative: the run isn't seeded
    protocol: str = ""  # a name in protocols.PROTOCOLS; "" if train.py was called directly
    variant: str = ""  # suffix of the config's name in folders and results; keeps runs with different options apart
    output_dir: str = ""
    trained_in: str = ""  # folder of the training run whose last checkpoint is tested; "" for other runs
    flags: Mapping[str, object] = field(default_factory=dict)  # {config key: value} for all other flags
    overrides: tuple[str, ...] = ()  # KEY VALUE KEY VALUE ...; if a key is repeated, its last value is used
    no_train: bool = False  # build the data, model and optimiser, then stop
    verbose: bool = False  # print the whole config
    extend_cfg: str = ""  # path of the user's file whose function extend_cfg(cfg) declares more config keys

    @property
    def options(self) -> dict[str, str]:
        """The KEY VALUE pairs in `overrides`, as a dict."""
        return dict(zip(self.overrides[::2], self.overrides[1::2], strict=False))


def parser() -> argparse.ArgumentParser:
    """Return the parser of train.py's flags and KEY VALUE pairs."""
    made = argparse.ArgumentParser(
        description="Train or test prompts of CLIP.",
        epilog="KEY VALUE pairs set config options. They may come before, between or after the flags.",
    )
    add = made.add_argument
    add("--root", default=os.environ.get("DATA", "data"), help="folder of all data sets (default: $DATA, or else data)")
    add("--output-dir", default="", help="folder to write the log, checkpoints and result to")
    add("--resume", default="", help="folder of the run to resume (default: the output folder)")
    add("--seed", type=int, default=-1, help="random seed; with a negative number, the run isn't seeded (default: -1)")
    add("--source-domains", nargs="+", help="source domains, for domain adaptation or generalisation")
    add("--target-domains", nargs="+", help="target domains, for domain adaptation or generalisation")
    add("--transforms", nargs="+", help="names of the transforms of the training images")
    add("--config-file", default="", help="the trainer's config file (default: the file that the trainer names)")
    add("--extend-cfg", default="", metavar="FILE", help="run the function extend_cfg(cfg) of this Python file first")
    add("--dataset-config-file", default="", help="the data set's config file")
    add("--trainer", default="", help="name of the trainer")
    add("--backbone", default="", help="name of the CLIP model (sets MODEL.BACKBONE.NAME)")
    add("--head", default="", help="name of the head (sets MODEL.HEAD.NAME)")
    add("--eval-only", action="store_true", help="test without training")
    add("--model-dir", default="", help="folder of the trained prompts that --eval-only tests")
    add("--load-epoch", type=int, default=None, help="epoch of the checkpoint to test (default: the last saved epoch)")
    add("--no-train", action="store_true", help="build the data, model and optimiser, then stop")
    add("--verbose", action="store_true", help="print the whole config and every log line")
    add("--debug", action="store_true", help="show the full traceback if an error occurs")
    add("opts", nargs="*", metavar="KEY VALUE", help="config options, for example OPTIM.LR 0.01")
    return made


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse train.py's flags and KEY VALUE pairs, in any order. If a flag is repeated, its last value is used."""
    return parser().parse_intermixed_args(argv)


def run_of(args: argparse.Namespace) -> Run:
    """Return the run that the (already parsed) arguments of train.py describe."""
    return Run(
        trainer=args.trainer,
        dataset=args.dataset_config_file,
        config=args.config_file,
        seed=args.seed,
        output_dir=args.output_dir,
        flags=flags_of(args),
        overrides=tuple(args.opts),
        no_train=args.no_train,
        verbose=args.verbose,
        extend_cfg=absolute(args.extend_cfg),
    )


def flags_of(args: argparse.Namespace) -> dict[str, object]:
    """Return {config key: value} for the flags that set config keys and aren't fields of `Run`.

    A flag that the user didn't give is left out, unless the flag has a default value.
    """
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


def absolute(path: str) -> str:
    """Return a path of the command line as an absolute path. Returns "" for an empty path."""
    return os.path.abspath(os.path.expanduser(path)) if path else ""


def stem(path: str) -> str:
    """Return the name of a config file without its folder and suffix. Returns "" for an empty path."""
    return Path(path).stem if path else ""
