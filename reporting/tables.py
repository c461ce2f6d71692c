"""Means over seeds and data sets, their spread, and the published figures beside them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from reporting.read import ReportError

PAPER = Path(__file__).resolve().parents[1] / "assets" / "paper_results.json"
#: What each protocol measures, in per cent.
MEASURES = {
    "base2new": ("base", "new", "hm"),
    "few_shot": ("accuracy",),
    "cross_dataset": ("accuracy",),
    "domain_generalization": ("accuracy",),
}
GROUP = ["trainer", "config", "shots"]


def harmonic(base: float, new: float) -> float:
    """Harmonic mean; 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


def with_harmonic(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of base and new with their harmonic mean as hm."""
    return frame.assign(hm=[harmonic(*pair) for pair in frame[["base", "new"]].itertuples(index=False)])


def of_protocol(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The runs that count for a protocol, those of the source marked by `role`."""
    runs = runs.assign(role="")
    if protocol == "base2new":
        return runs[runs["part"].isin(["base", "new"])]
    every = runs[runs["part"] == "all"]
    learned = every["trained_on"].fillna("") != ""
    evaluated = every["folder"].str.contains("/evaluation/")  # by the scripts: whose prompts, nobody may know
    crossed = (learned & (every["trained_on"] != every["dataset"])) | (evaluated & every["trained_on"].isna())
    targets = every[crossed | (evaluated & ~learned)]
    sources = set(targets["trained_on"].dropna()) - {""}
    methods = set(targets["trainer"] + "/" + targets["config"])
    is_source = every["dataset"].isin(sources) & (every["trainer"] + "/" + every["config"]).isin(methods)
    if protocol == "few_shot":
        return every.drop(targets.index).loc[~is_source]
    wanted = targets[targets["test_only"].astype(bool) == (protocol == "domain_generalization")]
    source = every[is_source & ~every.index.isin(targets.index)] if len(wanted) else every[:0]
    return pd.concat([source.assign(role="source"), wanted])


def rows(runs: pd.DataFrame, protocol: str, paper: str | Path = PAPER) -> list[dict[str, Any]]:
    """A row for every method, config, number of shots and data set, and one for the average over data sets.

    Keys: `trainer`, `config`, `dataset`, `shots`, `backbone`, each of the protocol's MEASURES with `_std` (over
    seeds, n - 1) and `_ci95` (half the width of Student's 95 % interval), `seeds`, `missing`; where the paper has
    the same backbone and shots, `_paper`, `_diff` and `_off` (the difference is over two standard deviations).
    The harmonic mean is that of the mean accuracies, as published; its spread is that over seeds.
    """
    selected = of_protocol(runs, protocol)
    try:
        published = _Published(json.loads(Path(paper).read_text()), protocol)
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{paper} holds no published figures as {PAPER.name} does: {error!r}") from error
    measures = MEASURES[protocol]
    found = []
    for key, group in selected.groupby(GROUP, sort=False, dropna=False):
        facts = dict(zip(GROUP, key, strict=True)) | {"backbone": next(iter(group["backbone"].dropna()), None)}
        alike = selected[selected["shots"] == facts["shots"]]
        datasets, seeds = _unique(alike["dataset"]), sorted(_unique(alike["seed"]))
        own, gaps = [], []
        frames: dict[str, pd.DataFrame] = {}
        for dataset in datasets:
            runs_of = group[group["dataset"] == dataset]
            if runs_of.empty:
                gaps.append(dataset)
                continue
            missing, frame = _missing(runs_of, seeds, measures), _by_seed(runs_of, protocol)
            gaps += [f"{dataset}: {gap}" for gap in missing]
            source = (runs_of["role"] == "source").any()
            frames |= {} if source else {dataset: frame}
            name = f"{dataset} (source)" if source else dataset
            own.append(facts | {"dataset": name} | _summary([frame], measures) | {"missing": missing})
        own.append(facts | {"dataset": "average"} | _summary(list(frames.values()), measures) | {"missing": gaps})
        found += [row | published.beside(row, set(frames)) for row in own]
    return [{name: _plain(value) for name, value in row.items()} for row in found]


def _unique(values: pd.Series) -> list[Any]:
    return list(dict.fromkeys(values))


def _by_seed(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Of a data set's runs a line a seed, with a column for each measure; NaN for what is missing."""
    if protocol != "base2new":
        return runs.groupby("seed")[["accuracy"]].mean()
    frame = runs.pivot_table(index="seed", columns="part", values="accuracy").reindex(columns=["base", "new"])
    return with_harmonic(frame)


def _missing(runs: pd.DataFrame, seeds: Sequence[int], measures: Sequence[str]) -> list[str]:
    """What of a data set's runs is not there, in words; of what learns nothing one seed is enough."""
    finished = runs[runs["state"] == "finished"]
    learns_nothing = len(finished) and (finished["trained_on"] == "").all()
    parts = ("base", "new") if "hm" in measures else ("all",)
    gaps = []
    for seed in sorted(set(runs["seed"])) if learns_nothing else seeds:
        states = {}
        for part in parts:
            run = runs[(runs["seed"] == seed) & (runs["part"] == part)]
            state, error = run[["state", "error"]].iloc[0] if len(run) else ("missing", "")
            states[part] = f"{state}: {error}" if error else state
        if len(set(states.values())) == 1:
            states = {"": states[parts[0]]}
        gaps += [
            f"seed {seed} {part} {state}".replace("  ", " ") for part, state in states.items() if state != "finished"
        ]
    return gaps


def _summary(frames: list[pd.DataFrame], measures: Sequence[str]) -> dict[str, Any]:
    """Mean, spread and seeds, of the average over data sets where there are several."""
    frames = [some for frame in frames if len(some := frame.dropna(how="all"))]
    means = pd.DataFrame([frame.mean() for frame in frames]).mean()
    seeds = sorted(set.intersection(*(set(frame.index) for frame in frames))) if frames else []
    averages = sum(frame.loc[seeds] for frame in frames) / max(1, len(frames))  # a line a seed
    summary: dict[str, Any] = {f"{name}{end}": math.nan for name in measures for end in ("", "_std", "_ci95")}
    if "hm" in means:
        means["hm"] = harmonic(means["base"], means["new"])
        averages = with_harmonic(averages)
    for name, mean in means.items():
        values = averages[name].dropna()
        std = values.std() if len(values) > 1 else math.nan
        half = stats.t.ppf(0.975, len(values) - 1) * std / math.sqrt(len(values)) if len(values) > 1 else math.nan
        summary |= {str(name): mean, f"{name}_std": std, f"{name}_ci95": half}
    return summary | {"seeds": seeds}


class _Published:
    """The paper's figures for a protocol."""

    def __init__(self, paper: dict[str, Any], protocol: str):
        self.figures: dict[str, dict[str, dict[str, float]]] = {}  # trainer -> data set -> measure -> per cent
        if protocol == "base2new":
            for trainer, datasets in paper["base2new"].items():
                self.figures[trainer] = {
                    name: dict(both, hm=harmonic(both["base"], both["new"])) for name, both in datasets.items()
                }
                base, new, mean = paper["base2new_average"][trainer]
                self.figures[trainer]["average"] = {"base": base, "new": new, "hm": mean}
        elif protocol in paper:
            order = paper[protocol]["order"]
            for trainer, values in paper[protocol].items():
                if trainer != "order":
                    named = dict(zip(order, values, strict=True))
                    average = sum(values[1:]) / (len(values) - 1)
                    self.figures[trainer] = {
                        name: {"accuracy": value} for name, value in (named | {"average": average}).items()
                    }

    def beside(self, row: dict[str, Any], averaged: set[str]) -> dict[str, Any]:
        """`_paper`, `_diff` and `_off` of each measure; nothing where the paper has no such figure."""
        figures = self.figures.get(row["trainer"], {})
        theirs = {name for name in figures if name != "average" and not name.endswith("(source)")}
        same = row["backbone"] == "ViT-B/16" and row["shots"] == 16
        if not same or row["dataset"] not in figures or (row["dataset"] == "average" and theirs != averaged):
            return {}
        found: dict[str, Any] = {}
        for name, figure in figures[row["dataset"]].items():
            difference, std = row[name] - figure, row[f"{name}_std"]
            off = None if math.isnan(std) or std == 0 else bool(abs(difference) > 2 * std)
            found |= {f"{name}_paper": figure, f"{name}_diff": difference, f"{name}_off": off}
        return found


def _plain(value: Any) -> Any:
    """As JSON takes it: NaN is None."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def show(table: list[dict[str, Any]], protocol: str, form: str) -> str:
    """The rows as text: terminal, markdown, latex (mean, spread, difference to the paper), csv or json (all keys)."""
    if form == "json":
        return json.dumps(table, indent=1)
    if form == "csv":
        frame = pd.DataFrame(table)
        frame["seeds"] = [" ".join(map(str, seeds)) for seeds in frame["seeds"]]
        frame["missing"] = frame["missing"].map("; ".join)
        return frame.to_csv(index=False).rstrip()
    several = len({row["dataset"] for row in table}) > 2  # else an average says nothing new
    shown = [cells(row, protocol) for row in table if several or row["dataset"] != "average"]
    frame = pd.DataFrame(without_empty_columns(shown))
    if form == "latex":
        escaped = {"%": r"\%", "_": r"\_", "±": r"$\pm$", "&": r"\&", "#": r"\#"}
        frame = frame.map(lambda cell: "".join(escaped.get(letter, letter) for letter in str(cell)))
        return frame.to_latex(index=False).rstrip()
    return frame.to_markdown(index=False, tablefmt="github" if form == "markdown" else "simple", disable_numparse=True)


def without_empty_columns(table: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of texts without the keys that are empty in all of them."""
    return [{key: text for key, text in row.items() if any(other[key] for other in table)} for row in table]


def cells(row: dict[str, Any], protocol: str) -> dict[str, str]:
    """A row as texts: what tables show."""
    texts = {name: str(row[name]) for name in ("trainer", "config", "dataset", "shots")}
    for name in MEASURES[protocol]:
        title = "HM" if name == "hm" else name
        mean, std, difference = row[name], row[f"{name}_std"], row.get(f"{name}_diff")
        texts[title] = "-" if mean is None else f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")
        mark = "*" if row.get(f"{name}_off") else ""
        texts[f"{title} - paper"] = "" if difference is None else f"{difference:+.2f}{mark}"
    missing = row["missing"]
    if row["dataset"] == "average":  # each is told in the data set's own row
        missing = ["of " + ", ".join(dict.fromkeys(gap.split(": ")[0] for gap in missing))] if missing else []
    return texts | {"seeds": " ".join(map(str, row["seeds"])), "missing": "; ".join(missing)}
