"""Prints tables of the results of all runs below a folder, or of the runs of a sweep.

    python report.py output --protocol base2new --format markdown
    python report.py output --layout paper --format latex
    python report.py output/sweeps/base2new --html report.html

With --html, it also writes an HTML page with plots. The code is in `reporting/`. Most of the code is imported after the
arguments are parsed, so that --help is quick.
"""

import argparse
import sys
from pathlib import Path

from dassl.utils.command_line import report_errors
from reporting.protocols import MEASURES

FORMS = ("terminal", "markdown", "csv", "latex", "json")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", help="folder that holds runs, or folder of a sweep (output/sweeps/NAME)")
    add("--protocol", choices=MEASURES, help="report only this protocol (default: all protocols that have runs)")
    add("--format", choices=FORMS, default="terminal")
    add(
        "--layout",
        choices=("runs", "paper", "details"),
        default="runs",
        help="runs: a row for each method and data set (default); paper: methods by data sets, best values "
        "marked; details: also macro F1, top-5 accuracy and calibration error",
    )
    add("--html", metavar="FILE", help="also write an HTML page with tables and plots to FILE")
    add("--compare", metavar="A,B", help="two trainers whose accuracy per class the HTML page compares")
    add(
        "--paper",
        metavar="FILE",
        help="published results to compare with (default: all that assets/ holds)",
    )
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the tables. Returns the exit code: 0, 2 for a wrong input, or 1 if a file can't be read or written."""
    args = parse_arguments(argv)
    return report_errors(lambda: make_report(args), args.debug)


def make_report(args: argparse.Namespace) -> None:
    """Print the tables, and write the HTML page if --html is given. Raises InputError for a wrong input."""
    from reporting import details, paper, tables
    from reporting.read import ReportError, read

    runs, notes = read(args.folder)
    wanted = [args.protocol] if args.protocol else list(MEASURES)
    found = {name: rows for name in wanted if (rows := tables.rows(runs, name, args.paper))}
    if not found:
        raise ReportError(f"{args.folder} holds no runs of the protocol {args.protocol}")
    if args.layout == "paper" and args.format not in paper.FORMS:
        raise ReportError(f"--layout paper has the formats {', '.join(paper.FORMS)}, but got --format {args.format}")
    if args.compare and not args.html:
        raise ReportError("--compare chooses what the HTML page compares: add --html FILE")
    compared = args.compare.split(",") if args.compare else None
    if compared and (len(compared) != 2 or not set(compared) <= set(runs["trainer"])):
        names = ", ".join(sorted(set(runs["trainer"])))
        raise ReportError(f"--compare takes two trainers as A,B, but got {args.compare}. There is: {names}")
    if args.html:
        from reporting import page

        notes += page.write(Path(args.html), args.folder, runs, found, notes, compared)
    for name, rows in found.items():
        if args.format in ("terminal", "markdown") and len(found) > 1:
            print(f"\n{name}\n" if args.format == "terminal" else f"\n## {name}\n")
        if args.layout == "paper":
            print(paper.show(paper.table(rows, name), name, args.format))
        elif args.layout == "details":
            print(details.show(runs, name, args.format))
        else:
            print(tables.show(rows, name, args.format))
    if args.layout == "runs":
        notes += tables.sources(row for rows in found.values() for row in rows)
    for note in notes:
        print(note, file=sys.stderr)
    if args.html:
        print(f"Wrote {args.html}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
