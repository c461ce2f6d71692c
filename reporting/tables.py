"""Makes the tables of a report. A table has a row for every method and data set. report.py calls `rows` and `show`.

If a paper has published figures for the same method, data set, backbone and number of shots, the row holds these too.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from reporting.measures import Value, by_seed, summarize
from reporting.protocols import MEASURES, of_protocol
from reporting.published import Figures, read_published

#: Characters that have a meaning in LaTeX, and how they are written.
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Return `text` with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


@dataclass(frozen=True)
class Row:
    """The results of one method on one data set. `dataset` is "average" for the average over data sets."""

    trainer: str
    config: str
    shots: int
    backbone: str | None
    dataset: str
    values: dict[str, Value]  # maps each measure to its value
    seeds: list[int]
    missing: list[str]  # a text for each run that is missing, cut off or failed
    by_seed: pd.DataFrame | None = None  # accuracies: a row for each seed, a column for each measure; None for averages
    source: str = ""  # a text that names the source of the published figures; "" if there are none

    @property
    def method(self) -> tuple[str, str]:
        return self.trainer, self.config

    def as_dict(self) -> dict[str, object]:
        """Return the row as a dict for JSON and CSV.

        The dict has three keys for each measure. For the measure `base`, the keys are `base`, `base_std` and
        `base_ci95`. If there is a published figure, the keys `base_paper`, `base_diff` and `base_off` are added,
        and the key `source`.
        """
        identity = {
            "trainer": self.trainer, "config": self.config, "shots": self.shots, "backbone": self.backbone,
            "dataset": self.dataset,
        }  # fmt: skip
        content = {name: _plain(value) for name, value in identity.items()}
        for name, value in self.values.items():
            content |= {name: value.mean, f"{name}_std": value.std, f"{name}_ci95": value.ci95}
        content |= {"seeds": self.seeds, "missing": self.missing}
        for name, value in self.values.items():
            if value.paper is not None:
                content |= {
                    f"{name}_paper": value.paper,
                    f"{name}_diff": value.difference,
                    f"{name}_off": value.is_off,
                }
        return content | ({"source": self.source} if self.source else {})


def rows(runs: pd.DataFrame, protocol: str, paper: str | Path | None = None) -> list[Row]:
    """Return a row for every method, number of shots and data set. A method is a trainer and a config.

    For each method and number of shots, the last row is the average over data sets.

    Args:
        paper: file of the published results. None: published.PAPER and published.SUCCESSORS.

    Raises:
        InputError: `paper` doesn't have the structure of published.PAPER.
    """
    published = read_published(protocol, paper)
    selected = of_protocol(runs, protocol)
    found = []
    for (trainer, config, shots), group in selected.groupby(["trainer", "config", "shots"], sort=False, dropna=False):
        method = Row(trainer, config, shots, next(iter(group["backbone"].dropna()), None), "", {}, [], [])
        table, averaged = _rows_of_method(method, group, selected[selected["shots"] == shots], protocol)
        figures = published.get((str(trainer), str(method.backbone), int(shots)))
        found += [_with_published(row, figures, averaged) for row in table] if figures else table
    return found


def _rows_of_method(
    method: Row, runs: pd.DataFrame, expected: pd.DataFrame, protocol: str
) -> tuple[list[Row], set[str]]:
    """Return a method's rows, and the names of the data sets with a result for each measure.

    Args:
        method: a row that holds the method's trainer, config, number of shots and backbone. These values are copied to
            all returned rows.
        runs: the method's runs.
        expected: runs of all methods. If a data set or a seed occurs in these runs but not in `runs`, it is reported as
            missing.
    """
    measures = MEASURES[protocol]
    table, all_missing = [], []
    averaged: dict[str, pd.DataFrame] = {}
    by_dataset, seeds = dict(iter(runs.groupby("dataset"))), sorted(expected["seed"].unique())
    for dataset in expected["dataset"].unique():
        if dataset not in by_dataset:
            all_missing.append(dataset)
            continue
        of_dataset = by_dataset[dataset]
        missing = _missing(of_dataset, seeds, measures)
        all_missing += [f"{dataset}: {text}" for text in missing]
        frame = by_seed(of_dataset, protocol)
        is_source = (of_dataset["role"] == "source").any()
        if not is_source:
            averaged[dataset] = frame
        values, found = summarize([frame], measures)
        name = f"{dataset} (source)" if is_source else dataset
        table.append(replace(method, dataset=name, values=values, seeds=found, missing=missing, by_seed=frame))
    values, found = summarize(list(averaged.values()), measures)
    table.append(replace(method, dataset="average", values=values, seeds=found, missing=all_missing))
    return table, {dataset for dataset, frame in averaged.items() if frame.notna().any().all()}


def _missing(runs: pd.DataFrame, seeds: Sequence[int], measures: Sequence[str]) -> list[str]:
    """Return a text for each missing or unfinished run of a method on a data set.

    Args:
        runs: the method's runs on the data set.
        seeds: the expected seeds. If the method learns nothing, they are ignored, because every seed gives the same
            result.
        measures: the measures of the protocol.
    """
    finished = runs[runs["state"] == "finished"]
    learns_nothing = len(finished) and (finished["trained_on"] == "").all()
    parts = ("base", "new") if "hm" in measures else ("all",)
    found: dict[tuple[int, str], tuple[str, str]] = {}
    for seed, part, state, error in runs[["seed", "part", "state", "error"]].itertuples(index=False):
        found.setdefault((seed, part), (state, error))
    texts = []
    for seed in sorted(set(runs["seed"])) if learns_nothing else seeds:
        states = {}
        for part in parts:
            state, error = found.get((seed, part), ("missing", ""))
            states[part] = f"{state}: {error}" if error else state
        if len(set(states.values())) == 1:
            states = {"": states[parts[0]]}
        for part, state in states.items():
            if state != "finished":
                texts.append(f"seed {seed} {part} {state}".replace("  ", " "))
    return texts


def _with_published(row: Row, figures: Figures, averaged: set[str]) -> Row:
    """Return the row with the published figures of its method. If there are none for its data set, return it unchanged.

    An average is compared only if the published average covers the same data sets.
    """
    theirs = {name for name in figures.by_dataset if name != "average" and not name.endswith("(source)")}
    if row.dataset not in figures.by_dataset or (row.dataset == "average" and theirs != averaged):
        return row
    published = figures.by_dataset[row.dataset]
    values = {name: replace(value, paper=published.get(name)) for name, value in row.values.items()}
    return replace(row, values=values, source=figures.describe(row.trainer, str(row.backbone)))


def sources(table: Iterable[Row]) -> list[str]:
    """Return a text for each source of published figures in the rows of tables."""
    return list(dict.fromkeys(row.source for row in table if row.source))


def _plain(value: object) -> object:
    """Convert numpy numbers to Python numbers, and NaN to None, because JSON has no numpy numbers and no NaN."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def show(table: Sequence[Row], protocol: str, form: str) -> str:
    """Return a table as text.

    Args:
        form: the format. The formats terminal, markdown and latex show the mean, the spread and the difference from the
            paper. The formats csv and json hold all keys of `Row.as_dict`.
    """
    return render([row.as_dict() for row in table], [cells(row, protocol) for row in shown(table)], form)


def render(content: list[dict[str, object]], texts: list[dict[str, str]], form: str) -> str:
    """Return a table as text in the format `form`.

    Args:
        content: the rows for csv and json. A cell of the csv shows the elements of a list in one line.
        texts: the rows for the other formats, as texts by column. Columns without any text are left out.
    """
    if form == "json":
        return json.dumps(content, indent=1)
    if form == "csv":
        frame = pd.DataFrame(content)
        frame = frame.assign(
            **{name: [_joined(values) for values in frame[name]] for name in ("seeds", "missing") if name in frame}
        )
        return frame.to_csv(index=False).rstrip()
    frame = pd.DataFrame(without_empty_columns(texts))
    if form == "latex":
        frame = frame.map(lambda cell: escape_latex(str(cell)))
        return frame.to_latex(index=False).rstrip()
    if form == "markdown":
        frame = frame.map(lambda cell: str(cell).replace("|", r"\|"))
    return frame.to_markdown(index=False, tablefmt="github" if form == "markdown" else "simple", disable_numparse=True)


def _joined(values: list[object]) -> str:
    return ("; " if any(isinstance(value, str) for value in values) else " ").join(map(str, values))


def shown(table: Sequence[Row]) -> list[Row]:
    """Return the rows to show. With a single data set, the averages are left out, because they repeat its row."""
    several = len({row.dataset for row in table}) > 2
    return [row for row in table if several or row.dataset != "average"]


def without_empty_columns(table: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows without the keys whose text is empty in all rows."""
    return [{key: text for key, text in row.items() if any(other[key] for other in table)} for row in table]


def value_text(value: Value) -> str:
    """Return the mean and the spread as text, or "" if the mean is unknown."""
    spread = "" if value.std is None else f" ± {value.std:.2f}"
    return "" if value.mean is None else f"{value.mean:.2f}{spread}"


def cells(row: Row, protocol: str) -> dict[str, str]:
    """Return the texts of a table row, as a dict that maps the title of each column to the text in the column."""
    texts = {
        "trainer": row.trainer, "config": str(row.config), "backbone": row.backbone or "", "dataset": row.dataset,
        "shots": str(row.shots),
    }  # fmt: skip
    for name in MEASURES[protocol]:
        title, value = "HM" if name == "hm" else name, row.values[name]
        texts[title] = value_text(value) or "-"
        mark = "*" if value.is_off else ""
        texts[f"{title} - paper"] = "" if value.difference is None else f"{value.difference:+.2f}{mark}"
    missing = row.missing
    if row.dataset == "average" and missing:  # the rows of the data sets have the details
        missing = ["runs on " + ", ".join(dict.fromkeys(text.split(": ")[0] for text in missing))]
    texts |= {"seeds": " ".join(map(str, row.seeds)), "missing": "; ".join(missing)}
    return {title: " ".join(text.split()) for title, text in texts.items()}  # a cell is one line
