"""Writes docs/methods.md: one row for each registered method. Call it after a change of a method or of stored results.

    python -m tools.methods_table

The rows come from the registry. The idea is the first sentence of the method class's docstring. What is learned is in
the README, published averages in assets/*_results.json, and ours in docs/emoji.md. benchmarks/method_costs.py stores
costs. Its counts must exist. If there are no measurements, their columns are left out.
"""

import re
import sys
from collections.abc import Sequence

from msgspec import Struct

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_plugins
from dassl.utils.typed import read_json_as
from reporting.published import PAPER, read_published
from tools.generated_pages import DOCS, markdown_table, table_rows, write_page
from trainers.base import PromptTrainer

ROOT = DOCS.parent
PAGE, COMMAND = DOCS / "methods.md", "python -m tools.methods_table"
COUNTS, TIMES = ROOT / "assets" / "method_costs.json", ROOT / "assets" / "method_times.json"
#: Trainers whose averages are among the ablations of MaPLe's paper, and their names there.
ABLATIONS = {
    "VPT": "VPT (deep vision)",
    "LanguagePrompting": "deep language",
    "IVLP": "IVLP (independent V-L)",
}
INTRODUCTION = """<!-- python -m tools.methods_table writes this page. -->

# All methods

## Ideas

What each method learns, and where it enters CLIP. Layers count from 0. [Where the prompts go](prompts.md) explains the
words. [Config keys](config.md) lists every option.
"""
COSTS = """## Costs

For ViT-B/16 and 100 classes, with the default config of each method: the number of learned parameters, and the GFLOPs
of a training step on 4 images (forward and backward pass; a multiply-add counts as two operations). Features that a
method computes only once aren't counted. `python benchmarks/method_costs.py` computes both, and
`python benchmarks/method_costs.py --measure` adds the time and memory of a step with 100 and 1,000 classes.
"""
ACCURACY = """## Accuracy

Average accuracy on base classes / new classes / harmonic mean in percent, 16 shots, mean of seeds 1 to 3. Published:
ViT-B/16 on 11 data sets. Ours: ViT-Mini/8 on the five data sets of the [embedded benchmark](emoji.md). The two columns
can't be compared with each other. Methods without figures are left out.

A letter shows the source of a published average:

* M: MaPLe's paper. VPT's figures are for deep prompts.
* E: a paper or a README that reprints it.
* R: recalled from the paper. Only the averages were seen in print.
* C: a file of the official repository.
"""


class Cost(Struct):
    """What `benchmarks/method_costs.py` counts for a method."""

    parameters: int
    gflops: float | None  # of a training step
    where: str


class Measured(Struct):
    """Time and memory of a training step."""

    seconds: float
    mib: float


class Times(Struct):
    """What `benchmarks/method_costs.py --measure` stores: {trainer: {number of classes: figures}}."""

    conditions: str
    trainers: dict[str, dict[str, Measured | None]]


class Paper(Struct):
    """Averages of MaPLe's ablations: {method: (base, new, harmonic mean)}."""

    ablation_average: dict[str, tuple[float, float, float]]


def methods() -> dict[str, type[PromptTrainer]]:
    """Return the registered trainers of the project by name, without those of other plugins."""
    load_plugins("trainers")
    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    return {name: cls for name, cls in sorted(found.items()) if issubclass(cls, PromptTrainer)}


def readme_row(name: str) -> tuple[str, str]:
    """Return a method's page, relative to docs/, and what the method learns. Both are in the README's table.

    Raises:
        InputError: the README's table of trainers doesn't name the method.
    """
    for cells in table_rows(ROOT / "README.md"):
        links = re.findall(r"\[([^\]]*)\]\(docs/([\w-]+\.md)\)", cells[0])
        if links and len(cells) == 3 and re.search(rf"\b{name}\b", cells[0]):
            own = [page for words, page in links if re.search(rf"\b{name}\b", words)]
            return (own or [links[0][1]])[0], cells[1]
    raise InputError(f"the README's table of trainers has no row for {name}")


def published_averages() -> dict[str, str]:
    """Return {trainer: "base / new / harmonic mean (source)"} of the files of published results."""
    paper = read_json_as(PAPER, Paper, "file of published results")
    ablations = {trainer: paper.ablation_average[name] for trainer, name in ABLATIONS.items()}
    found = {trainer: (*values, "M") for trainer, values in ablations.items()}
    for (trainer, _, _), figures in read_published("base2new").items():
        average = figures.by_dataset["average"]
        found[trainer] = (average["base"], average["new"], average["hm"], figures.provenance or "M")
    return {name: f"{base:.2f} / {new:.2f} / {hm:.2f} ({code})" for name, (base, new, hm, code) in found.items()}


def our_averages() -> dict[str, str]:
    """Return {trainer: "base / new / harmonic mean"} on the embedded benchmark: docs/emoji.md's first table."""
    rows = [cells for cells in table_rows(DOCS / "emoji.md") if len(cells) == 7 and cells[6].count(" / ") == 2]
    return {cells[0]: cells[6] for cells in rows if re.match(r"[\d.]+ /", cells[6])}


def accuracy_rows(names: Sequence[str]) -> list[list[str]]:
    """Return the rows of the methods that have at least one average."""
    published, ours = published_averages(), our_averages()
    rows = [[name, published.get(name, "-"), ours.get(name, "-")] for name in names]
    return [row for row in rows if row[1:] != ["-", "-"]]


def cost_table(names: Sequence[str], costs: dict[str, Cost]) -> str:
    """Return the table of parameters and GFLOPs, with time and memory if they were measured."""
    header = ["trainer", "learned parameters", "GFLOPs of a step"]
    rows = [
        [name, f"{costs[name].parameters:,}", "-" if costs[name].gflops is None else f"{costs[name].gflops:,.1f}"]
        for name in names
    ]
    if not TIMES.is_file():
        return markdown_table(header, rows)
    times = read_json_as(TIMES, Times, "file of measured times")
    counts = list(next(iter(times.trainers.values())))
    for count in counts:
        header += [f"ms, {int(count):,} classes", f"MiB, {int(count):,} classes"]
        for row in rows:
            measured = times.trainers.get(row[0], {}).get(count)
            row += ["-", "-"] if measured is None else [f"{1000 * measured.seconds:,.0f}", f"{measured.mib:,.0f}"]
    note = f"Measured on {times.conditions}, one after the other. Differences below 20 % may be noise."
    return f"{markdown_table(header, rows)}\n\n{note}"


def content() -> str:
    """Return the page.

    Raises:
        InputError: a method has no docstring, no row in the README or no stored costs.
    """
    costs = read_json_as(COUNTS, dict[str, Cost], "file of method costs")
    ideas, found = [], methods()
    for name, cls in found.items():
        page, learned = readme_row(name)
        if name not in costs or not cls.method.__doc__:
            raise InputError(f"{name} has no costs in {COUNTS} or no docstring. Run: python benchmarks/method_costs.py")
        idea = cls.method.__doc__.splitlines()[0].split(". ")[0].removesuffix(".")
        ideas.append([f"[{name}]({page})", idea, learned, costs[name].where])
    accuracy = markdown_table(["trainer", "published", "ours"], accuracy_rows(list(found)))
    parts = [
        INTRODUCTION,
        markdown_table(["trainer", "idea", "what it learns", "where it enters"], ideas) + "\n",
        COSTS,
        cost_table(list(found), costs) + "\n",
        ACCURACY,
        accuracy + "\n",
    ]
    return "\n".join(parts)


def main(argv: list[str]) -> int:
    return write_page(PAGE, content, argv, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
