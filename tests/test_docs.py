"""README and docs: links, paths, the tree, and figures that two places share."""

import ast
import json
import re
from pathlib import Path

import doc_pages
import pytest
from doc_pages import PAGES, ROOT

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from tools.generated_pages import table_rows

#: Folders that runs make; the docs name files below them that aren't in the repository.
IGNORED = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
FILES = [
    path.relative_to(ROOT)
    for path in ROOT.rglob("*")
    if path.suffix in (".py", ".sh", ".md") and not IGNORED & set(path.relative_to(ROOT).parts)
]
TOP = {path.name for path in ROOT.iterdir()} - IGNORED - {".git"}
#: Imports against the table of docs/architecture.md, which the page explains: file -> folder.
PUBLISHED = json.loads((ROOT / "assets" / "paper_results.json").read_text())
SUCCESSORS = json.loads((ROOT / "assets" / "successors_results.json").read_text())


@pytest.mark.parametrize("page", PAGES, ids=doc_pages.name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file; its anchor is a heading of that file."""
    for target in doc_pages.links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in doc_pages.anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=doc_pages.name_of)
def test_paths_in_code_spans_exist(page: Path) -> None:
    """A span that starts with a folder of the project, or ends like a source file, names what exists."""
    for span in doc_pages.inline_code(page):
        if not re.fullmatch(r"[\w.+/<>*-]+", span):
            continue
        pattern = re.sub(r"<\w+>", "*", span).rstrip("/")
        if "/" in span and pattern.split("/")[0] in TOP:
            assert list(ROOT.glob(pattern)), span
        elif span.endswith((".py", ".sh", ".md")):
            assert [file for file in FILES if str(file).endswith(span)], span


def test_every_page_is_linked() -> None:
    """A reader reaches every page of docs/ from the README or from another page."""
    linked = {(page.parent / target.split("#")[0]).resolve() for page in PAGES for target in doc_pages.links(page)}
    assert set((ROOT / "docs").glob("*.md")) - linked == set()


def test_the_readme_s_tree_is_the_project_s() -> None:
    """The tree in the README names only what exists, and every tracked folder and Python file of the top level."""
    (tree,) = [block for block in doc_pages.blocks(ROOT / "README.md") if block.text.startswith("train.py")]
    named, folder = set(), ROOT
    for line in filter(None, tree.lines):
        name = line.split()[0]
        folder = folder if line.startswith("  ") else ROOT
        assert (folder / name).exists(), line
        if not line.startswith("  "):
            named.add(name.strip("/"))
            folder = ROOT / name
    expected = {name for name in TOP if (ROOT / name).is_dir() and not name.startswith(".")}
    expected |= {path.name for path in ROOT.glob("*.py")} - {"setup.py"}
    assert {name for name in expected if not name.endswith(".egg-info")} == named


def test_the_readme_lists_every_trainer() -> None:
    """The table of trainers names each registered trainer of the project, and links only to pages that describe it."""
    load_plugins("trainers")
    names = TRAINER_REGISTRY.registered_names()
    ours = {name for name in names if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")}
    text = (ROOT / "README.md").read_text().split("## Trainers")[1].split("## Scripts")[0]
    assert {name for name in ours if not re.search(rf"\b{name}\b", text)} == set()


def test_the_readme_quotes_the_demo_s_last_line() -> None:
    last = (ROOT / "scripts" / "demo.sh").read_text().rstrip().splitlines()[-1]
    assert re.fullmatch(r'echo "(.*)"', last)[1] in (ROOT / "README.md").read_text()  # type: ignore[index]


# ---- architecture ----


def imports(file: Path) -> set[str]:
    """The dotted names of the modules that a Python file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_folders(file: Path) -> set[str]:
    """The project's folders and top-level modules that a file imports; trainers/common counts as a folder."""
    ours = {path.stem for path in ROOT.glob("*.py")} | {path.name for path in ROOT.iterdir() if path.is_dir()}
    names = {name for name in imports(file) if name.split(".")[0] in ours}
    return {"trainers/common" if name.startswith("trainers.common") else name.split(".")[0] for name in names}


def import_rules() -> list[tuple[str, set[str]]]:
    """The rows of "Who may import whom" that set a limit: folder or file -> what it may import."""
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Who may import whom")[1].split("##")[0]
    rules: list[tuple[str, set[str]]] = []
    for line in re.findall(r"^\| (`.*`) \| .* \| (.*) \|$", text, re.MULTILINE):
        left, right = ([name.strip("/") for name in re.findall(r"`([^`]+)`", cell)] for cell in line)
        rules += [(name, set(right)) for name in left if line[1] != "all"]
    return rules


@pytest.mark.parametrize(("name", "allowed"), import_rules(), ids=[name for name, _ in import_rules()])
def test_imports_follow_the_table(name: str, allowed: set[str]) -> None:
    """A folder imports only itself and the folders that its row in docs/architecture.md lists."""
    path = ROOT / name
    files = [path] if path.is_file() else list(path.glob("*.py" if name == "trainers" else "**/*.py"))
    assert files
    for file in files:
        assert imported_folders(file) <= allowed | {name}, file


def test_the_path_to_the_loss_is_short() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().split("to the loss")[-1]
    assert 1 <= len(re.findall(r"^\d+\. `", text, re.MULTILINE)) <= 14


# ---- figures ----


def test_the_readme_s_figures_are_those_of_the_emoji_page() -> None:
    """emoji_food, seed 1: what the demo runs."""
    table = list(table_rows(ROOT / "docs" / "emoji.md"))
    by_seed = {row[0]: row[3] for row in table if len(row) == 7 and row[1] in ("1", "all")}  # column: emoji_food
    shown = [row for row in table_rows(ROOT / "README.md") if re.fullmatch(r"[\d.]+", row[-1])]
    assert len(shown) == 3
    for name, base, new, harmonic in shown:
        assert by_seed[name.split()[0]] == f"{base} / {new}"
        assert float(harmonic) == pytest.approx(2 / (1 / float(base) + 1 / float(new)), abs=0.01)


def test_the_emoji_page_s_means_are_those_of_its_seeds() -> None:
    """The first table holds the means of the second."""
    table = list(table_rows(ROOT / "docs" / "emoji.md"))
    means = {row[0]: row[1:6] for row in table if len(row) == 7 and " / " in row[1]}
    assert len(means) == 17
    for trainer, cells in means.items():
        seeds = [row[2:] for row in table if row[0] == trainer and len(row) == 7 and row[1] in ("1", "2", "3", "all")]
        for number, cell in enumerate(cells):
            for part, shown in enumerate(cell.split(" / ")):
                values = [float(seed[number].split(" / ")[part]) for seed in seeds]
                assert float(shown) == pytest.approx(sum(values) / len(values), abs=0.06)


@pytest.mark.parametrize(
    ("page", "table", "name"),
    [
        ("maple", "base2new_average", "MaPLe"),
        ("coop", "base2new_average", "CoOp"),
        ("cocoop", "base2new_average", "CoCoOp"),
        ("zsclip", "base2new_average", "ZeroshotCLIP"),
        ("vpt", "ablation_average", "VPT (deep vision)"),
        ("language-prompting", "ablation_average", "deep language"),
        ("independent-vlp", "ablation_average", "IVLP (independent V-L)"),
        ("maple", "cross_dataset", "MaPLe"),
        ("coop", "cross_dataset", "CoOp"),
        ("cocoop", "cross_dataset", "CoCoOp"),
        ("maple", "domain_generalization", "MaPLe"),
        ("coop", "domain_generalization", "CoOp"),
        ("cocoop", "domain_generalization", "CoCoOp"),
        ("zsclip", "domain_generalization", "ZeroshotCLIP"),
    ],
)
def test_published_figures_are_those_of_the_papers(page: str, table: str, name: str) -> None:
    expected = [f"{value:.2f}" for value in PUBLISHED[table][name]]
    found = list(table_rows(ROOT / "docs" / f"{page}.md"))
    assert expected in found
    if "order" in PUBLISHED[table]:
        assert PUBLISHED[table]["order"] in found


def figures_of(trainer: str) -> list[list[float]]:
    """The averages and the accuracies across data sets in assets/successors_results.json, in the order of the pages."""
    averages = [list(SUCCESSORS["base2new"][trainer]["average"].values())]
    averages += [list(each["average"].values()) for name, each in SUCCESSORS["few_shot"].items() if name == trainer]
    for protocol in ("cross_dataset", "domain_generalization"):
        if trainer in SUCCESSORS[protocol]:
            found = SUCCESSORS[protocol][trainer]
            values = found.get("targets", found)
            targets = [values[name] for name in PUBLISHED[protocol]["order"][1:]]
            averages.append([found["source_accuracy_ImageNet"], *targets])
    return averages


@pytest.mark.parametrize("trainer", ["KgCoOp", "ProGrad", "PromptSRC", "TCP", "CoPrompt"])
def test_published_figures_of_successors_are_those_of_the_file(trainer: str) -> None:
    found = list(table_rows(ROOT / "docs" / f"{trainer.lower()}.md"))
    for values in figures_of(trainer):
        assert [f"{value:.2f}" for value in values] in found
