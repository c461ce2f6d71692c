"""The mean over seeds of a folder of runs, with the original parser's arguments; it reads result.json, not logs.

    python parse_test_res.py output/base2new/train_base/dtd/shots_16/MaPLe/CONFIG            # seed1 seed2 seed3
    python parse_test_res.py output/base2new/train_base/dtd/shots_16/MaPLe --multi-exp       # a folder an experiment

`python report.py` gives the whole table: base, new, harmonic mean, data sets, what is missing.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np


def values(folder: Path, keyword: str) -> dict[Path, float]:
    """The figure of every run in a folder. Raises ValueError for one that hasn't it."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        if not isinstance(result.get(keyword), (int, float)):
            numbers = [key for key, value in result.items() if isinstance(value, float)]
            raise ValueError(f"{path} has no number {keyword!r}. There is: {', '.join(numbers)}")
        found[path] = float(result[keyword])
    return found


def summary(folder: Path, keyword: str, ci95: bool) -> float:
    """Print a folder's runs, their mean and its spread as the original does (n, not n - 1); returns the mean."""
    found = values(folder, keyword)
    if not found:
        raise ValueError(f"no */result.json in {folder}")
    print(f"===\nSummary of directory: {folder}")
    for path, value in found.items():
        print(f"file: {path}. {keyword}: {value:.2f}%.")
    numbers = np.array(list(found.values()))
    spread = numbers.std() * (1.96 / np.sqrt(len(numbers)) if ci95 else 1)
    print(f"* {keyword}: {numbers.mean():.2f}% +- {spread:.2f}%\n===")
    return float(numbers.mean())


def main(argv: list[str] | None = None) -> int:
    """0, or 2 where there is nothing to read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="a folder of runs; with --multi-exp, of such folders")
    parser.add_argument("--ci95", action="store_true", help="95 %% interval instead of the standard deviation")
    parser.add_argument("--test-log", action="store_true", help="for the original's callers: results need no such hint")
    parser.add_argument("--multi-exp", action="store_true", help="several experiments, and their average")
    parser.add_argument("--keyword", default="accuracy", help="which number of result.json")
    args = parser.parse_args(argv)
    try:
        folders = sorted(path for path in args.directory.iterdir() if path.is_dir()) if args.multi_exp else []
        means = [summary(folder, args.keyword, args.ci95) for folder in folders or [args.directory]]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.multi_exp:
        print(f"Average performance\n* {args.keyword}: {np.mean(means):.2f}%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
