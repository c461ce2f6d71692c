"""The site of docs/ and the notebook. Both need packages of the extra `docs`; without them the tests are skipped."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from doc_pages import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def test_the_navigation_names_every_page() -> None:
    """A page of docs/ that mkdocs.yml leaves out would be hard to find."""
    text = (ROOT / "mkdocs.yml").read_text()
    nav = set(re.findall(r"[\w-]+\.md$", str(text.split("\nnav:")[1]), re.MULTILINE))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - nav == set()


def test_the_site_loads_no_fonts() -> None:
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["theme"]["font"] is False


def test_the_notebook_has_no_outputs() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    """Every link, anchor and docstring resolves, and a page loads only files of the site."""
    pytest.importorskip("material", reason="mkdocs-material isn't installed: pip install -e '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings isn't installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("index", "tutorial", "contributing", "maple", "config"):
        assert (tmp_path / "site" / f"{name}.html").is_file()
    reference = (tmp_path / "site" / "api.html").read_text()
    for name in ("Classifier", "from_run", "Method", "encode_text", "DatasetBase", "Registry", "tokenize"):
        assert re.search(rf'id="[\w.]*\b{name}"', reference), name
    for page in (tmp_path / "site").rglob("*.html"):
        assert re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="https?://', page.read_text()) == [], page


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, on the embedded CLIP and images; the last cell prints five classes."""
    for package in ("nbclient", "ipykernel", "nbformat"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} isn't installed: pip install -e '.[docs]'")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OUTPUT", str(tmp_path / "output"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT / "docs")}}).execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert len(re.findall(r"^ *[\d.]+%  \S", last.outputs[0].text, re.MULTILINE)) == 5
