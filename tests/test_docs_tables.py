"""The generated pages of docs/: complete, and equal to what their tools write."""

import re
from dataclasses import dataclass
from pathlib import Path

import method_costs
import pytest

from dassl.config import described, described_node, keys, meaning_of
from dassl.utils import InputError
from tools import config_table, generated_pages, methods_table
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


# ---- methods ----


def test_the_methods_page_is_up_to_date() -> None:
    """Every registered method has a docstring, a row in the README and stored costs."""
    assert methods_table.main(["--check"]) == 0, f"run: {methods_table.COMMAND}"


def test_stored_parameters_are_those_of_the_docstrings() -> None:
    """Trainers whose docstring says how many parameters they learn on ViT-B/16; those numbers aren't per class."""
    costs = methods_table.read_json_as(methods_table.COUNTS, dict[str, methods_table.Cost], "file of method costs")
    checked = 0
    for name, cls in methods_table.methods().items():
        found = re.search(r"With ViT-B/16.* learns ([\d,]+) parameters", (cls.__doc__ or "").splitlines()[0])
        if found:
            assert f"{costs[name].parameters:,}" == found[1], name
            checked += 1
    assert checked > 5


def test_measured_columns_appear_if_there_are_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"A": methods_table.Cost(1200, 2.5, "text"), "B": methods_table.Cost(0, None, "-")}
    monkeypatch.setattr(methods_table, "TIMES", tmp_path / "times.json")
    assert methods_table.cost_table(["A", "B"], costs).splitlines()[2:] == ["| A | 1,200 | 2.5 |", "| B | 0 | - |"]
    figures = '{"A": {"1000": {"seconds": 0.5, "mib": 100.2}}, "B": {"1000": null}}'
    (tmp_path / "times.json").write_text(f'{{"conditions": "a CPU", "trainers": {figures}}}')
    table = methods_table.cost_table(["A", "B"], costs).splitlines()
    assert table[0].endswith("| ms, 1,000 classes | MiB, 1,000 classes |")
    assert table[2:4] == ["| A | 1,200 | 2.5 | 500 | 100 |", "| B | 0 | - | - | - |"]
    assert table[-1].startswith("Measured on a CPU, ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CoOp", "MaPLe", "VPT", "TaskRes", "ZeroshotCLIP"])
def test_stored_costs_are_those_of_the_method(name: str) -> None:
    """Counts don't depend on the machine. The methods here take seconds."""
    costs = methods_table.read_json_as(methods_table.COUNTS, dict[str, methods_table.Cost], "file of method costs")
    counted = method_costs.count(name)
    assert (counted["parameters"], counted["where"]) == (costs[name].parameters, costs[name].where)
    stored = costs[name].gflops
    assert counted["gflops"] == (stored and pytest.approx(stored, rel=0.01))
