"""Reads the Markdown pages for tests/test_docs.py: code blocks, command lines, inline code, links, headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Pages whose commands, links and paths are checked.
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "assets").glob("*/README.md"),
    ]
)
#: First words of a line that make it a command.
PROGRAMS = ("bash", "python", "python3", "torchrun", "pip", "export", "source", "hf")


@dataclass(frozen=True)
class Block:
    """A code block: its page, its language ("" for an indented block) and its lines, without the indent."""

    page: str
    language: str
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Command:
    """A command of a page, split as a shell does; comments are dropped."""

    page: str
    words: list[str]
    is_mention: bool = False  # in the prose, a script without arguments: only its name is meant

    def __str__(self) -> str:
        return shlex.join(self.words)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced and the indented code blocks of a page, in order."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        start = number + 1
        if lines[number].startswith("```"):
            language = lines[number].removeprefix("```")
            number = lines.index("```", start)
            yield Block(name_of(page), language, lines[start:number])
        elif lines[number] == "" and start < len(lines) and lines[start].startswith("    "):
            number = start
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            number -= 1
            yield Block(name_of(page), "", [line[4:] for line in lines[start : number + 1]])
            continue  # the empty line after a block may come before the next one
        number += 1


def is_command(line: str) -> bool:
    """Whether a line of a code block starts with a program, or is "... ARGUMENTS" for any command."""
    return line.startswith(("... ", *(f"{program} " for program in PROGRAMS)))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """The `code spans` of a page's prose; a span over two lines becomes one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def commands(page: Path) -> Iterator[Command]:
    """Every command of a page's code blocks and code spans."""
    for block in blocks(page):
        for line in block.lines if not block.language else []:
            for part in line.split(" && ") if is_command(line) else []:
                yield Command(name_of(page), shlex.split(part, comments=True))
    for span in inline_code(page):
        if is_command(span) and not span.endswith("..."):
            words = shlex.split(span)
            yield Command(name_of(page), words, is_mention=words[0] == "bash" and len(words) == 2)


def links(page: Path) -> list[str]:
    """The targets of a page's links, without those to web sites."""
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
