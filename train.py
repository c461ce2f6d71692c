"""Trains or tests the trainer that the config names.

    python train.py --trainer MaPLe --dataset-config-file configs/datasets/dtd.yaml --seed 1 \\
        --output-dir output/dtd DATASET.NUM_SHOTS 16

Config: defaults, then the data set's file, the trainer's file, the flags, and KEY VALUE pairs. What a data set's file
says of MODEL and INPUT stands against the trainer's file: a data set may come with its own backbone and image size.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yacs.config import CfgNode

ROOT = Path(__file__).resolve().parent


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Flags and KEY VALUE pairs, in any order; of what is given twice the last wins."""
    parser = argparse.ArgumentParser(
        description="Train or test prompts of CLIP.", epilog="Then KEY VALUE pairs of the config, anywhere."
    )
    add = parser.add_argument
    add("--root", default=os.environ.get("DATA", "data"), help="folder of the data sets (default: $DATA, or data)")
    add("--output-dir", default="", help="folder of log, checkpoints and result")
    add("--resume", default="", help="folder to resume from (default: the output folder)")
    add("--seed", type=int, default=-1, help="from 0 up; negative: not seeded")
    add("--source-domains", nargs="+", help="source domains of domain adaptation or generalisation")
    add("--target-domains", nargs="+", help="target domains of the same")
    add("--transforms", nargs="+", help="names of training transforms")
    add("--config-file", default="", help="the trainer's config (default: the one it names)")
    add("--dataset-config-file", default="", help="the data set's config")
    add("--trainer", default="", help="name of the trainer")
    add("--backbone", default="", help="name of the CLIP: MODEL.BACKBONE.NAME")
    add("--head", default="", help="name of the head: MODEL.HEAD.NAME")
    add("--eval-only", action="store_true", help="test without training")
    add("--model-dir", default="", help="with --eval-only: folder whose prompts are tested")
    add("--load-epoch", type=int, default=None, help="their epoch (default: the last saved)")
    add("--no-train", action="store_true", help="build everything, then stop")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("opts", nargs="*", metavar="KEY VALUE", help="config options")
    return parser.parse_intermixed_args(argv)


def build_config(args: argparse.Namespace) -> "CfgNode":
    """The resolved, frozen config. Raises InputError for an unknown trainer, file or key, or a wrong value."""
    from dassl.config import check_values, merge_file, merge_words
    from dassl.engine import TRAINER_REGISTRY, get_trainer
    from dassl.utils import InputError
    from trainers.common.options import default_config, default_config_file

    cfg = default_config()
    if not args.trainer or "TRAINER.NAME" in args.opts[::2]:
        names = ", ".join(sorted(TRAINER_REGISTRY.registered_names()))
        raise InputError(f"say which trainer by --trainer (not by TRAINER.NAME): {names}")
    trainer_file = args.config_file or default_config_file(
        get_trainer(args.trainer), dataset_file=args.dataset_config_file
    )
    if args.dataset_config_file:
        merge_file(cfg, args.dataset_config_file)
    if trainer_file:
        merge_file(cfg, trainer_file)
    if args.dataset_config_file:
        merge_file(cfg, args.dataset_config_file, only=("MODEL", "INPUT"))
    flags = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "SEED": args.seed,
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms,
        "TRAINER.NAME": args.trainer,
        "DATASET.CONFIG": Path(args.dataset_config_file).stem,
        "TRAINER.CONFIG": Path(trainer_file).stem if trainer_file else "",
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
        "TEST.EVAL_ONLY": args.eval_only,
        "TEST.MODEL_DIR": args.model_dir,
        "TEST.LOAD_EPOCH": args.load_epoch,
    }
    given = [word for key, value in flags.items() if value not in (None, "") for word in (key, value)]
    merge_words(cfg, [*given, *args.opts])
    check_values(cfg)
    cfg.freeze()
    return cfg


def run(cfg: "CfgNode", no_train: bool = False) -> None:
    """Build the trainer that `cfg` names; train and test it, or only test it. A finished run is kept as it is."""
    from dassl.engine.run_folder import exclusive_lock, is_finished

    if not is_finished(cfg) or no_train:
        with exclusive_lock(cfg.OUTPUT_DIR):
            if not is_finished(cfg) or no_train:
                work(cfg, no_train)
                return
    print(f"Finished already, nothing to do: the result of this config is in {cfg.OUTPUT_DIR}")


def work(cfg: "CfgNode", no_train: bool) -> None:
    """`run`, whatever is in the output folder."""
    import torch

    from dassl.engine import build_trainer
    from dassl.engine.results import write_picks, write_result
    from dassl.engine.run_folder import CONFIG
    from dassl.utils import InputError, collect_env_info, set_deterministic, set_random_seed, setup_logger, write_text

    setup_logger(cfg.OUTPUT_DIR)
    set_deterministic(cfg.DETERMINISTIC or not (cfg.USE_CUDA and torch.cuda.is_available()))
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    print(cfg, collect_env_info(), sep="\n\n")
    trainer = build_trainer(cfg)
    if cfg.TEST.EVAL_ONLY and trainer.get_model_names() and not cfg.TEST.MODEL_DIR:
        raise InputError("--eval-only needs --model-dir, the folder of the prompts to test")
    if no_train:
        return
    if trainer.get_model_names() and not cfg.TEST.EVAL_ONLY and getattr(trainer.dm.dataset, "test_only", False):
        raise InputError(f"{cfg.DATASET.NAME} is a test set: train on another, and test here with --eval-only")
    write_text(cfg.dump(), Path(cfg.OUTPUT_DIR) / CONFIG)
    if not cfg.TEST.EVAL_ONLY:
        write_picks(trainer)
        trainer.train()
        return
    trainer.load_model(cfg.TEST.MODEL_DIR, epoch=cfg.TEST.LOAD_EPOCH if cfg.TEST.LOAD_EPOCH >= 0 else None)
    trainer.test()
    write_result(trainer)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 for a wrong input and 1 for a file or number that failed, each told in one line."""
    args = parse_arguments(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: run(build_config(args), args.no_train), args.debug)


def report_errors(job, debug: bool) -> int:
    """Do `job`; of an error that a user can mend print one line, unless `debug`."""
    from clip.loading import WeightsError
    from dassl.utils import InputError, Logger

    try:
        job()
    except (InputError, WeightsError, OSError, FloatingPointError) as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    finally:
        if isinstance(sys.stdout, Logger):
            sys.stdout.close()
            sys.stdout = sys.stdout.console
    return 0


if __name__ == "__main__":
    sys.exit(main())
