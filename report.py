"""Tables and plots of all runs below a folder, or of a sweep.

python report.py output --protocol base2new --format markdown
python report.py output/sweeps/base2new --html report.html
"""

import argparse
import sys
from pathlib import Path

FORMS = ("terminal", "markdown", "csv", "latex", "json")


def parse(argv: list[str] | None) -> argparse.Namespace:
    from reporting import tables

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", help="a folder of runs, or of a sweep (output/sweeps/NAME)")
    add("--protocol", choices=tables.MEASURES, help="this alone (default: all that there are runs of)")
    add("--format", choices=FORMS, default="terminal")
    add("--html", metavar="FILE", help="also write a page with plots, self-contained")
    add("--compare", metavar="A,B", help="the two trainers of the page's plot by class")
    add("--paper", metavar="FILE", default=str(tables.PAPER), help="published figures to compare with")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0, or 2 where there is nothing to report."""
    from reporting import tables
    from reporting.read import ReportError, read

    args = parse(argv)
    try:
        runs, notes = read(args.folder)
        asked = [args.protocol] if args.protocol else list(tables.MEASURES)
        found = {name: rows for name in asked if (rows := tables.rows(runs, name, args.paper))}
        if not found:
            raise ReportError(f"no runs of {args.protocol} below {args.folder}")
        pair = args.compare.split(",") if args.compare else None
        if pair and (len(pair) != 2 or not set(pair) <= set(runs["trainer"])):
            names = ", ".join(sorted(set(runs["trainer"])))
            raise ReportError(f"--compare takes two trainers, A,B, not {args.compare}. There is: {names}")
        if args.html:
            from reporting import page

            notes += page.write(Path(args.html), args.folder, runs, found, notes, pair)
    except (ReportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, rows in found.items():
        if args.format in ("terminal", "markdown") and len(found) > 1:
            print(f"\n{name}\n" if args.format == "terminal" else f"\n## {name}\n")
        print(tables.show(rows, name, args.format))
    for note in notes:
        print(note, file=sys.stderr)
    if args.html:
        print(f"Wrote {args.html}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
