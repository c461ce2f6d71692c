"""Prints the mean result of an experiment, averaged over its seeds.

    python parse_test_res.py output/base2new/train_base/dtd/shots_16/MaPLe/CONFIG            # holds seed1, seed2, seed3
    python parse_test_res.py output/base2new/train_base/dtd/shots_16/MaPLe --multi-exp       # holds several CONFIG

The script takes the same arguments as CoOp's parse_test_res.py, but reads result.json instead of log files.
`python report.py` prints tables of all data sets with base, new and harmonic mean accuracy, and lists missing runs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dassl.utils.command_line import report_errors
from dassl.utils.errors import InputError
from dassl.utils.typed import read_json_as


def read_values(folder: Path, keyword: str) -> dict[Path, float]:
    """Return a dict that maps the path of each result.json in the subfolders of `folder` to a number from the file.

    `keyword` is the key of the number in the file. Raises InputError if the key is missing or its value isn't a number.
    """
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = read_json_as(path, dict[str, Any], "result")
        value = result.get(keyword)
        if not isinstance(value, int | float) or isinstance(value, bool):
            numbers = [key for key, other in result.items() if isinstance(other, float)]
            raise InputError(f"{path} has no number named {keyword!r}. There is: {', '.join(numbers)}")
        found[path] = float(value)
    return found


def summarize(folder: Path, keyword: str, ci95: bool) -> float:
    """Print the value of each run in a folder, their mean and their spread. Returns the mean.

    The spread is the standard deviation with divisor n, as in CoOp's script. If `ci95` is True, the spread is
    half the width of the 95 % confidence interval of the mean.
    """
    import numpy as np

    found = read_values(folder, keyword)
    if not found:
        raise InputError(
            f"no subfolder of {folder} holds a result.json. Name the folder that holds seed1, seed2 and so on; with "
            "--multi-exp, the folder above"
        )
    print(f"===\nSummary of directory: {folder}")
    for path, value in found.items():
        print(f"file: {path}. {keyword}: {value:.2f}%.")
    numbers = np.array(list(found.values()))
    spread = numbers.std() * (1.96 / np.sqrt(len(numbers)) if ci95 else 1)
    print(f"* {keyword}: {numbers.mean():.2f}% +- {spread:.2f}%\n===")
    return float(numbers.mean())


def main(argv: list[str] | None = None) -> int:
    """Print the means. Returns the exit code: 0, 2 if a result is missing or wrong, or 1 if a file can't be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "directory",
        type=Path,
        help="folder that holds the runs; with --multi-exp, folder that holds several such folders",
    )
    parser.add_argument(
        "--ci95", action="store_true", help="print the 95 %% confidence interval instead of the standard deviation"
    )
    parser.add_argument("--test-log", action="store_true", help="has no effect; accepted because CoOp's script has it")
    parser.add_argument(
        "--multi-exp",
        action="store_true",
        help="read several experiments, and also print the mean over the experiments",
    )
    parser.add_argument(
        "--keyword", default="accuracy", help="name of the number in result.json to read (default: accuracy)"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        if not args.directory.is_dir():
            raise InputError(f"the folder {args.directory} doesn't exist")
        folders = sorted(path for path in args.directory.iterdir() if path.is_dir()) if args.multi_exp else []
        means = [summarize(folder, args.keyword, args.ci95) for folder in folders or [args.directory]]
        if args.multi_exp:
            print(f"Average performance\n* {args.keyword}: {sum(means) / len(means):.2f}%")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main())
