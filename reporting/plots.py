"""The plots of a report: each a function from runs and rows to a matplotlib figure, or None where there is no data."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reporting import tables

#: Lines of a plot by class.
CLASSES = 24
_TITLES = {"base": "base classes", "new": "new classes", "hm": "harmonic mean", "accuracy": "accuracy"}


def labels(rows: Iterable[Any]) -> dict[tuple[str, str], str]:
    """(trainer, config) -> name: the trainer alone where it has one config only."""
    pairs = list(dict.fromkeys((row["trainer"], row["config"]) for row in rows))
    trainers = [trainer for trainer, _ in pairs]
    return {pair: pair[0] if trainers.count(pair[0]) == 1 else f"{pair[0]} {pair[1]}" for pair in pairs}


def bars(table: list[dict[str, Any]], protocol: str) -> Figure | None:
    """Base, new and harmonic mean of every method on average over data sets; of other protocols, a group a data set."""
    names = labels(table)
    rows = [row for row in table if row["dataset"] == "average"] if protocol == "base2new" else table
    shots = max((row["shots"] for row in rows), default=0)
    rows = [row for row in rows if row["shots"] == shots]
    measures = tables.MEASURES[protocol]
    groups = (
        [_TITLES[m] for m in measures] if protocol == "base2new" else list(dict.fromkeys(r["dataset"] for r in rows))
    )
    heights: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in names.values()}
    for row in rows:
        for measure in measures:
            if row.get(measure) is not None:
                group = _TITLES[measure] if protocol == "base2new" else row["dataset"]
                key = names[row["trainer"], row["config"]]
                heights[key][group] = row[measure], row[f"{measure}_std"] or 0.0
    heights = {name: values for name, values in heights.items() if values}
    if not heights:
        return None
    figure = Figure(figsize=(max(7, 1.4 * len(groups)), 3.6), layout="constrained")
    axes, width = figure.subplots(), 0.85 / len(heights)
    for number, (name, values) in enumerate(heights.items()):
        there = [(place, *values[group]) for place, group in enumerate(groups) if group in values]
        x, height, spread = map(np.array, zip(*there, strict=True))
        shift = (number - (len(heights) - 1) / 2) * width
        axes.bar(x + shift, height, width, yerr=spread, capsize=2, label=name)
    axes.set_xticks(range(len(groups)), groups, rotation=0 if len(groups) < 6 else 30)
    axes.set_ylabel(f"accuracy, % ({shots} shots)")
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12 if len(groups) < 6 else -0.3))
    return figure


def scatter(table: list[dict[str, Any]]) -> Figure | None:
    """Accuracy on new classes against that on base classes, a point a data set and method."""
    rows = [row for row in table if row["dataset"] != "average" and None not in (row.get("base"), row.get("new"))]
    if not rows:
        return None
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    for pair, name in labels(rows).items():
        own = [row for row in rows if (row["trainer"], row["config"]) == pair]
        axes.plot([row["base"] for row in own], [row["new"] for row in own], "o", label=name)
    axes.axline((50, 50), slope=1, color="0.8", zorder=0)
    values = [row[name] for row in rows for name in ("base", "new")]
    axes.set(xlim=(min(values) - 3, max(values) + 3), ylim=(min(values) - 3, max(values) + 3))
    axes.set(xlabel="base classes, %", ylabel="new classes, %")
    axes.legend(fontsize=8)
    return figure


def curves(runs: pd.DataFrame, protocol: str, by: str) -> Figure | None:
    """Each measure over `by` (shots, depth or length), averaged over data sets, with a band of a standard deviation.

    Methods are told apart by trainer and config, but for the part of a config's name that says depth or length.
    """
    runs = tables.of_protocol(runs, protocol).dropna(subset=[by, "accuracy"])
    runs = runs[runs["role"] != "source"]
    part = rf"_?{by}\d+| (PROMPT_DEPTH|N_CTX)\w*=\d+"
    runs = runs.assign(config=runs["config"].str.replace(part, "", regex=True))
    varied = runs.groupby(["trainer", "config"])[by].transform("nunique") > 1
    runs = runs[varied]
    if runs.empty:
        return None
    measures = tables.MEASURES[protocol]
    names = labels(runs[["trainer", "config"]].to_dict("records"))
    figure = Figure(figsize=(3.6 * len(measures) + 1, 3.2), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    for pair, name in names.items():
        own = runs[(runs["trainer"] == pair[0]) & (runs["config"] == pair[1])]
        seeds = own.groupby([by, "seed", "part"])["accuracy"].mean().unstack()
        seeds = seeds.rename(columns={"all": "accuracy"})
        if protocol == "base2new" and {"base", "new"} <= set(seeds):
            seeds = tables.with_harmonic(seeds)
        for axes, measure in zip(panels, measures, strict=True):
            if measure in seeds:
                of = seeds[measure].groupby(level=0)
                mean, std = of.mean(), of.std().fillna(0)
                (line,) = axes.plot(mean.index, mean, "o-", label=name)
                axes.fill_between(mean.index, mean - std, mean + std, alpha=0.2, color=line.get_color())
    for axes, measure in zip(panels, measures, strict=True):
        axes.set(xlabel=by, title=_TITLES[measure])
        axes.set_xticks(sorted(runs[by].unique()))
    panels[0].set_ylabel("%")
    panels[0].legend(fontsize=8)
    return figure


def training(runs: pd.DataFrame) -> Figure | None:
    """Training loss over the course of training, averaged over runs, with a band of a standard deviation."""
    points = np.linspace(0, 1, 41)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for row in runs[runs["state"] == "finished"].to_dict("records"):
        path = Path(row["folder"]) / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        losses = np.array([json.loads(line)["loss"] for line in lines])
        if len(losses) > 1:
            window = max(1, len(losses) // 20)  # a batch's loss alone is noise
            smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
            course = np.interp(points, np.linspace(0, 1, len(smooth)), smooth)
            found.setdefault((row["trainer"], row["config"]), []).append(course)
    if not found:
        return None
    names = labels([{"trainer": trainer, "config": config} for trainer, config in found])
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for pair, courses in found.items():
        mean, std = np.mean(courses, axis=0), np.std(courses, axis=0)
        (line,) = axes.plot(100 * points, mean, label=f"{names[pair]} ({len(courses)} runs)")
        axes.fill_between(100 * points, mean - std, mean + std, alpha=0.2, color=line.get_color())
    axes.set(xlabel="course of training, %", ylabel="training loss")
    axes.legend(fontsize=8)
    return figure


def by_class(runs: pd.DataFrame, pair: Sequence[str]) -> Figure | None:
    """By how much the second trainer is better than the first, on the classes where the two differ most."""
    accuracies = []
    for trainer in pair:
        values: dict[str, list[float]] = {}
        for row in runs[(runs["trainer"] == trainer) & (runs["state"] == "finished")].to_dict("records"):
            result = json.loads((Path(row["folder"]) / "result.json").read_text())
            for name, value in result.get("per_class", {}).items():
                values.setdefault(f"{name} ({row['dataset']}, {row['part']})", []).append(value)
        accuracies.append({name: float(np.mean(of)) for name, of in values.items()})
    first, second = accuracies
    gains = sorted((second[name] - first[name], name) for name in first.keys() & second.keys())
    if not gains:
        return None
    half = CLASSES // 2
    shown = gains if len(gains) <= CLASSES else gains[:half] + gains[-half:]
    figure = Figure(figsize=(7, 0.24 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    values_ = [gain for gain, _ in shown]
    axes.barh([name for _, name in shown], values_, color=["tab:red" if gain < 0 else "tab:green" for gain in values_])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel(f"accuracy of {pair[1]} less that of {pair[0]}, points")
    return figure


def confusion(said: np.ndarray, label: np.ndarray, classnames: Sequence[str]) -> Figure:
    """Share of each class's images by what was said of them, for the classes with most errors."""
    wrong = np.bincount(label[said != label], minlength=len(classnames))
    chosen = np.sort(np.argsort(-wrong, kind="stable")[:CLASSES])
    matrix = np.zeros((len(classnames), len(classnames)))
    np.add.at(matrix, (label, said), 1)
    matrix /= np.maximum(1, matrix.sum(axis=1, keepdims=True))
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * matrix[np.ix_(chosen, chosen)], cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the class's images", shrink=0.8)
    names = [classnames[number] for number in chosen]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="said", ylabel="is")
    return figure


def worst(images: Sequence[tuple[Any, str, str, float]]) -> Figure:
    """Images (image, class, what was said, the class's probability) beside each other."""
    columns = min(6, len(images))
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.1 * lines), layout="constrained")
    for axes in (grid := figure.subplots(lines, columns, squeeze=False)).flat:
        axes.set_axis_off()
    for axes, (image, name, said, probability) in zip(grid.flat, images, strict=False):
        axes.imshow(image)
        axes.set_title(f"{name}\nsaid {said}\n({100 * probability:.1g} % {name})", fontsize=7)
    return figure
