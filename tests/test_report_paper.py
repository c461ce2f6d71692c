"""report.py --layout paper: methods by data sets, the averages, the marks, and LaTeX that compiles."""

import json
import re
import shutil
import subprocess

import pytest
from report_runs import ACCURACIES, write_base2new, write_result

import report


@pytest.fixture
def folder(tmp_path):
    """MaPLe has two data sets and three seeds, CoOp the same with other figures, VPT one data set and one seed."""
    write_base2new(tmp_path, ACCURACIES)
    write_base2new(tmp_path, {key: (base - 5, new + 2) for key, (base, new) in ACCURACIES.items()}, trainer="CoOp")
    write_base2new(tmp_path, {("EuroSAT", 1): (99.0, 50.0)}, trainer="VPT")
    return tmp_path


def show(folder, capsys, *arguments):
    assert report.main([str(folder), "--layout", "paper", *arguments]) == 0
    return capsys.readouterr().out


def cells(text, measure):
    """{method: {data set: cell}} of a block in Markdown."""
    block = text.split(f"**{measure}**")[1].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def test_methods_stand_beside_data_sets_with_the_best_bold(folder, capsys):
    text = show(folder, capsys, "--format", "markdown")
    base, new = cells(text, "Base classes"), cells(text, "New classes")
    assert base["MaPLe"]["DescribableTextures"] == "**81.00** ± 1.00"
    assert base["CoOp"]["DescribableTextures"] == "<u>76.00</u> ± 1.00"
    assert base["VPT"] == {"DescribableTextures": "-", "EuroSAT": "**99.00**", "average": "**99.00**"}, "one seed"
    assert new["CoOp"]["EuroSAT"] == "**73.00** ± 3.61"


def test_averages_cover_the_same_data_sets(folder, capsys):
    text = show(folder, capsys, "--format", "markdown")
    base = cells(text, "Base classes")
    assert base["MaPLe"]["average"] == "<u>93.67</u> ± 1.53", "that of EuroSAT, because VPT has no other data set"
    assert "The average leaves out DescribableTextures" in text
    shutil.rmtree(folder / "base/EuroSAT/VPT")
    shutil.rmtree(folder / "new/EuroSAT/VPT")
    text = show(folder, capsys, "--format", "markdown")
    assert cells(text, "Base classes")["MaPLe"]["average"].startswith("**87.33**")
    assert "leaves out" not in text


def test_averages_leave_out_data_sets_where_a_run_failed(folder, capsys):
    shutil.rmtree(folder / "base/EuroSAT/VPT")
    shutil.rmtree(folder / "new/EuroSAT/VPT")
    for part in ("base", "new"):
        for result in (folder / part / "DescribableTextures/CoOp").glob("*/result.json"):
            content = json.loads(result.read_text())
            del content["accuracy"]
            result.with_name("result.json").write_text(json.dumps(content))
    base = cells(show(folder, capsys, "--format", "markdown"), "Base classes")
    assert base["MaPLe"]["average"] == "**93.67** ± 1.53", "that of EuroSAT"


def test_published_figures_stand_below(folder, capsys):
    base = cells(show(folder, capsys, "--format", "markdown"), "Base classes")
    assert base["MaPLe (published)"] == {"DescribableTextures": "80.36", "EuroSAT": "94.07", "average": "-"}


def test_what_distinguishes_the_methods_is_a_column(tmp_path, capsys):
    for shots in (1, 16):
        fields = dict(shots=shots, subsample_classes="all", accuracy=50.0 + shots, protocol="few_shot")
        write_result(tmp_path / f"shots{shots}", **fields)
    text = show(tmp_path, capsys, "--format", "terminal")
    assert re.search(r"method +shots +DescribableTextures", text)
    assert re.search(r"MaPLe +16 +66.00", text)
    assert "average" not in text.split("Published figures")[0]
    assert "Published figures of MaPLe with ViT-B/16: PromptSRC table 13 (appendix) (R: from memory" in text


def test_latex_compiles(folder, tmp_path, capsys):
    write_base2new(folder, {("EuroSAT", 1): (99.0, 50.0)}, trainer="A_b$&%#{}~^\\")
    text = show(folder, capsys, "--format", "latex")
    rows = re.findall(r"^(.+) \\\\$", text, re.M)
    plain = [re.sub(r"\\[&]", "", row) for row in rows if not row.startswith(r"\multicolumn")]
    assert {row.count("&") for row in plain} == {3}
    assert text.count(r"\midrule") == 3
    assert r"\textbf{" in text
    assert r"\underline{" in text
    if shutil.which("pdflatex"):
        page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
        (tmp_path / "t.tex").write_text(page, encoding="utf-8")
        done = subprocess.run(["pdflatex", "-interaction=batchmode", "-halt-on-error", "t.tex"], cwd=tmp_path)
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "paper", "--format", "csv"], "--layout paper has the formats terminal, markdown, latex"),
        (["--compare", "CoOp,MaPLe"], "add --html FILE"),
    ],
)
def test_options_that_do_not_fit_are_errors(arguments, message, folder, capsys):
    assert report.main([str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err
