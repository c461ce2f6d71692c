"""The generated pages of docs/: complete, and equal to what their tools write."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from dassl.config import described, described_node, keys, meaning_of
from dassl.utils import InputError
from tools import config_table, generated_pages
from trainers.common.options import default_config

# ---- config keys ----


def test_the_config_page_is_up_to_date() -> None:
    """Every key has a meaning, and docs/config.md is what the tool writes."""
    assert config_table.main(["--check"]) == 0, f"run: {config_table.COMMAND}"


def test_the_config_page_has_a_row_for_every_key() -> None:
    page = config_table.PAGE.read_text()
    assert [key for key, _ in keys(default_config()) if f"| `{key}` |" not in page] == []


@dataclass(frozen=True)
class Parent:
    A: int = described(1, "the first")
    B: tuple[str, ...] = described((), "the second")
    C: list[int] = described([1, 2], "a list")


@dataclass(frozen=True)
class Child(Parent):
    A: int = 5
    D: int = 0


def test_a_changed_default_inherits_the_meaning() -> None:
    assert [meaning_of(Child, name) for name in "ABCD"] == ["the first", "the second", "a list", ""]
    assert Child() == Child(5, (), [1, 2], 0)
    assert Child().C is not Child().C


def test_a_key_without_a_meaning_is_an_error() -> None:
    assert config_table.rows_of(described_node(Parent), "NODE")[0] == ["`NODE.A`", "int", "`1`", "the first"]
    with pytest.raises(InputError, match=r"NODE\.D has no meaning"):
        config_table.rows_of(described_node(Child), "NODE")


def test_a_stale_page_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"

    def run(content: str, *argv: str) -> int:
        return generated_pages.write_page(page, lambda: content, argv, "python -m tools.example")

    assert run("a", "--check") == 2
    assert run("a") == 0
    assert page.read_text() == "a"
    assert run("a", "--check") == 0
    assert run("b", "--check") == 2
    assert "is stale. Run: python -m tools.example" in capsys.readouterr().err
    assert page.read_text() == "a"
