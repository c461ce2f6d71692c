"""Prints base, new and their harmonic mean for every run below a folder of base-to-new results: table.py FOLDER."""

import json
import sys
from pathlib import Path


def rows(folder: Path) -> list[tuple[str, float, float, float]]:
    """(run, base, new, harmonic mean) of every run that has both results; the run is its path below train_base/."""
    found = []
    for base in sorted(folder.glob("train_base/**/result.json")):
        run = base.parent.relative_to(folder / "train_base")
        new = folder / "test_new" / run / "result.json"
        if new.is_file():
            b, n = (json.loads(path.read_text())["accuracy"] for path in (base, new))
            found.append((str(run), b, n, 2 * b * n / (b + n) if b + n else 0.0))
    return found


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python scripts/table.py FOLDER", file=sys.stderr)
        return 2
    table = rows(Path(argv[0]))
    if not table:
        print(f"error: no run below {argv[0]} has both train_base/ and test_new/ results", file=sys.stderr)
        return 2
    width = max(len(run) for run, *_ in table)
    print(f"{'run':<{width}}   base    new     HM")
    for run, base, new, mean in table:
        print(f"{run:<{width}}  {base:5.2f}  {new:5.2f}  {mean:5.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
