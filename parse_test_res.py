"""Prints the mean over seeds of a folder of runs. Takes the arguments of CoOp's parser, and reads result.json.

    python parse_test_res.py output/base2new/train_base/dtd/shots_16/MaPLe/CONFIG            # holds seed1 seed2 seed3
    python parse_test_res.py output/base2new/train_base/dtd/shots_16/MaPLe --multi-exp       # holds several CONFIG

`python report.py` prints whole tables: base, new, harmonic mean, all data sets, missing runs.
"""

import argparse
import json
import sys
from pathlib import Path


def read_values(folder: Path, keyword: str) -> dict[Path, float]:
    """Return the value of `keyword` in each result.json of a folder of runs. Raises ValueError if one lacks it."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        if not isinstance(result.get(keyword), (int, float)):
            numbers = [key for key, value in result.items() if isinstance(value, float)]
            raise ValueError(f"{path} has no number {keyword!r}. There is: {', '.join(numbers)}")
        found[path] = float(result[keyword])
    return found


def summarize(folder: Path, keyword: str, ci95: bool) -> float:
    """Print a folder's runs and their mean, and return the mean.

    The spread is the standard deviation with divisor n, as in the original, or its 95 % interval.
    """
    import numpy as np

    found = read_values(folder, keyword)
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
    """Print the means. Returns the exit code: 0, or 2 if there is nothing to read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="folder of runs; with --multi-exp, of such folders")
    parser.add_argument("--ci95", action="store_true", help="print the 95 %% interval, not the standard deviation")
    parser.add_argument("--test-log", action="store_true", help="accepted for the original's callers, has no effect")
    parser.add_argument("--multi-exp", action="store_true", help="read several experiments, and print their average")
    parser.add_argument("--keyword", default="accuracy", help="which number of result.json")
    args = parser.parse_args(argv)
    try:
        folders = sorted(path for path in args.directory.iterdir() if path.is_dir()) if args.multi_exp else []
        means = [summarize(folder, args.keyword, args.ci95) for folder in folders or [args.directory]]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.multi_exp:
        print(f"Average performance\n* {args.keyword}: {sum(means) / len(means):.2f}%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
