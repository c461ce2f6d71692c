"""Trains or tests one trainer on one data set.

    python train.py --trainer MaPLe --dataset-config-file configs/datasets/dtd.yaml --seed 1 \\
        --output-dir output/dtd DATASET.NUM_SHOTS 16

The config is merged from the defaults, the data set's file, the trainer's file, the flags and the KEY VALUE pairs.
Later sources override earlier sources. The code is in `experiments/`: `arguments.py` parses the command line,
`config.py` resolves the config, and `execute.py` trains and tests. Errors in flags, names and paths are reported before
torch is imported.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dassl import distributed
from dassl.utils.command_line import report_errors
from experiments.arguments import parse_arguments, run_of

if TYPE_CHECKING:
    from yacs.config import CfgNode


def build_config(args: argparse.Namespace) -> "CfgNode":
    """Return the frozen config that the parsed arguments describe.

    Raises InputError for an unknown name, file or key, or for a wrong value.
    """
    from experiments.config import resolve

    return resolve(run_of(args))


def run(cfg: "CfgNode", no_train: bool = False) -> None:
    """Train and test. If TEST.EVAL_ONLY is set, only test. If the run has already finished, only print a message.

    Args:
        cfg: a config from `build_config`.
        no_train: build the data, model and optimiser, then stop.
    """
    from experiments.execute import run_config

    run_config(cfg, no_train)


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the command line `argv` and return the exit code. If `argv` is None, `sys.argv` is used.

    The exit code is 0 for success and 2 for a wrong input. It is 1 if a file can't be read or written, or
    if the loss is infinite or NaN.
    """
    distributed.mute_others()
    args = parse_arguments(sys.argv[1:] if argv is None else argv)

    def job() -> None:
        from experiments.execute import execute

        execute(run_of(args))

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main())
