"""Trains or tests one trainer on one data set.

    python train.py --trainer MaPLe --dataset-config-file configs/datasets/dtd.yaml --seed 1 \\
        --output-dir output/dtd DATASET.NUM_SHOTS 16

The config is made of the defaults, the data set's file, the trainer's file, the flags and the KEY VALUE pairs; later
ones override earlier ones. `experiments/` does the work: `arguments.py` parses, `config.py` resolves the config, and
`execute.py` trains and tests. Errors in flags, names and paths are reported before torch is imported.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dassl.utils.command_line import report_errors
from experiments.arguments import parse_arguments, run_of

if TYPE_CHECKING:
    from yacs.config import CfgNode


def build_config(args: argparse.Namespace) -> "CfgNode":
    """The frozen config of parsed arguments. Raises InputError for an unknown name, file or key, or a wrong value."""
    from experiments.config import resolve

    return resolve(run_of(args))


def run(cfg: "CfgNode", no_train: bool = False) -> None:
    """Train and test a config that `build_config` made, or only test it. A finished run stays as it is."""
    from experiments.execute import run_config

    run_config(cfg, no_train)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the program's). Returns the exit code.

    It is 0 for success, 2 for a wrong input, 1 for a failed file or number.
    """
    args = parse_arguments(sys.argv[1:] if argv is None else argv)

    def job() -> None:
        from experiments.execute import execute

        execute(run_of(args))

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main())
