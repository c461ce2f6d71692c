"""Reads and writes Markdown tables, and writes or checks the generated pages of docs/.

`tools/config_table.py` and `tools/methods_table.py` call this module. Tests fail if a page isn't what its tool writes.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dassl.utils import InputError, report_errors, write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. A | in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def table_rows(page: Path) -> Iterator[list[str]]:
    """Yield the cells of every table row of a Markdown page."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def write_page(file: Path, text: Callable[[], str], argv: Sequence[str], command: str) -> int:
    """Parse a generator's command line, then write the page. Returns the exit code.

    With --check, the page is only compared. If it differs, the exit code is 2.

    Args:
        text: makes the page's content.
        command: the command line that writes the page, for messages.
    """
    parser = argparse.ArgumentParser(description=f"Write docs/{file.name}.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page would change")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def write() -> None:
        content = text()
        if not args.check:
            write_text(content, file)
        elif not file.is_file() or file.read_text(encoding="utf-8") != content:
            raise InputError(f"{file} is stale. Run: {command}")

    return report_errors(write, args.debug)
