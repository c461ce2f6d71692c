"""Draws the plots of a report's HTML page. `page.write` calls these functions.

Each public function except `legend_names` and `draw_band` draws one plot and returns it as a matplotlib figure. A
function returns None if there is no data for its plot.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.Image import Image

from dassl.engine.formats import read_result
from reporting.measures import Value, with_harmonic_mean
from reporting.paper import Table
from reporting.protocols import MEASURES, of_protocol
from reporting.read import records
from reporting.tables import Row

#: Maximum number of classes in plots that show results by class.
CLASSES = 24
#: How plots name a measure, or a group of classes.
TITLES = {
    "base": "base classes", "new": "new classes", "all": "all classes", "hm": "harmonic mean", "accuracy": "accuracy",
}  # fmt: skip


def legend_names(methods: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a dict that maps each method, which is a pair (trainer, config), to the method's name in legends.

    The name is the trainer. If the trainer has several configs, the config is added to the name.
    """
    methods = list(dict.fromkeys(methods))
    trainers = [trainer for trainer, _ in methods]
    return {pair: pair[0] if trainers.count(pair[0]) == 1 else f"{pair[0]} {pair[1]}" for pair in methods}


def bars(content: Table, protocol: str, label: str) -> Figure | None:
    """Draw the means of all methods as bars.

    For base2new, three groups of bars show the accuracy on base classes, the accuracy on new classes, and their
    harmonic mean, all averaged over data sets. For other protocols, each data set has a group of bars, and the average
    over data sets has a group too.

    Args:
        content: the methods by data sets. All its averages are over the same data sets.
        label: text beside the y axis.
    """
    if protocol == "base2new":
        place = content.datasets[-1]  # the average, or the only data set
        groups = {TITLES[measure]: (place, measure) for measure in MEASURES[protocol]}
    else:
        groups = {dataset: (dataset, "accuracy") for dataset in content.datasets}
    heights: dict[str, dict[str, tuple[float, float | None]]] = {}
    for method in content.methods:
        for group, (dataset, measure) in groups.items():
            value = method.values.get(dataset, {}).get(measure, Value())
            if value.mean is not None:
                heights.setdefault(" ".join(method.names), {})[group] = value.mean, value.std
    return _bar_chart(heights, list(groups), label) if heights else None


def _bar_chart(
    heights: Mapping[str, Mapping[str, tuple[float, float | None]]], groups: list[str], label: str
) -> Figure:
    """Draw groups of bars, with a bar for each method in each group.

    Args:
        heights: maps a method's name in the legend to {group: (height, spread) of the bar}. Without a spread, the bar
            has no error mark.
        groups: names of the groups, in the order in which the chart shows the groups.
        label: text beside the y axis.
    """
    figure = Figure(figsize=(max(7, 1.4 * len(groups)), 3.6), layout="constrained")
    axes, width = figure.subplots(), 0.85 / len(heights)
    for number, (name, values) in enumerate(heights.items()):
        present = [(place, *values[group]) for place, group in enumerate(groups) if group in values]
        places, height, spread = zip(*present, strict=True)
        x = np.array(places) + (number - (len(heights) - 1) / 2) * width
        axes.bar(x, height, width, label=name)
        measured = [place for place, value in enumerate(spread) if value is not None]
        axes.errorbar(
            x[measured],
            np.array(height)[measured],
            [spread[place] for place in measured],
            fmt="none",
            capsize=2,
            ecolor="black",
        )
    axes.set_xticks(range(len(groups)), groups, rotation=0 if len(groups) < 6 else 30)
    axes.set_ylabel(label)
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12 if len(groups) < 6 else -0.3))
    return figure


def scatter(table: Sequence[Row]) -> Figure | None:
    """Draw a point for each method and data set.

    The x axis shows the accuracy on base classes, and the y axis shows the accuracy on new classes.
    """
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in table:
        base, new = row.values["base"].mean, row.values["new"].mean
        if row.dataset != "average" and base is not None and new is not None:
            points.setdefault(row.method, []).append((base, new))
    if not points:
        return None
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    for method, name in legend_names(points).items():
        base_values, new_values = zip(*points[method], strict=True)
        axes.plot(base_values, new_values, "o", label=name)
    axes.axline((50, 50), slope=1, color="0.8", zorder=0)
    values = [value for pairs in points.values() for pair in pairs for value in pair]
    axes.set(xlim=(min(values) - 3, max(values) + 3), ylim=(min(values) - 3, max(values) + 3))
    axes.set(xlabel="base classes, %", ylabel="new classes, %")
    axes.legend(fontsize=8)
    return figure


def curves(runs: pd.DataFrame, protocol: str, by: str) -> Figure | None:
    """Draw how the accuracy of each method depends on the number of shots, the prompt depth or the prompt length.

    There is a panel for each measure, with a curve for each method. A curve shows the mean over data sets, and a band
    around the curve shows one standard deviation over seeds. A method is a trainer and a config. Configs whose names
    differ only in the value of `by`, PROMPT_DEPTH or N_CTX are points of the same curve.

    Args:
        by: the column of `runs` that the x axis shows: "shots", "depth" or "length".
    """
    runs = of_protocol(runs, protocol).dropna(subset=[by, "accuracy"])
    runs = runs[runs["role"] != "source"]
    part = rf"_?{by}\d+| (PROMPT_DEPTH|N_CTX)\w*=\d+"
    runs = runs.assign(config=runs["config"].str.replace(part, "", regex=True))
    varied = runs.groupby(["trainer", "config"])[by].transform("nunique") > 1
    runs = runs[varied]
    if runs.empty:
        return None
    measures = MEASURES[protocol]
    figure = Figure(figsize=(3.6 * len(measures) + 2.6, 3.2), layout="constrained")
    panels = dict(zip(measures, figure.subplots(1, len(measures), squeeze=False)[0], strict=True))
    names = legend_names(zip(runs["trainer"], runs["config"], strict=True))
    for (trainer, config), name in names.items():
        of_method = runs[(runs["trainer"] == trainer) & (runs["config"] == config)]
        table = of_method.groupby([by, "seed", "part"])["accuracy"].mean().unstack()
        table = table.rename(columns={"all": "accuracy"})
        if protocol == "base2new" and {"base", "new"} <= set(table):
            table = with_harmonic_mean(table)
        for measure in (name for name in measures if name in table):
            values = table[measure].groupby(level=0)  # a group holds the seeds' values for one value of `by`
            draw_band(panels[measure], values.mean().index, values.mean(), values.std().fillna(0), name)
    for measure, axes in panels.items():
        axes.set(xlabel=by, title=TITLES[measure])
        axes.set_xticks(sorted(runs[by].unique()))
    panels[measures[0]].set_ylabel("%")
    figure.legend(*panels[measures[0]].get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    return figure


def draw_band(
    axes: Axes, x: np.ndarray | pd.Index, mean: np.ndarray | pd.Series, std: np.ndarray | pd.Series, label: str,
    marker: str = "o-",
) -> None:  # fmt: skip
    """Draw the line `mean` against `x`, and a band of one standard deviation around the line."""
    (line,) = axes.plot(x, mean, marker, label=label)
    axes.fill_between(x, mean - std, mean + std, alpha=0.2, color=line.get_color())


def by_class(runs: pd.DataFrame, trainers: Sequence[str]) -> Figure | None:
    """For each class, draw the accuracy of the second trainer minus the accuracy of the first trainer.

    If there are more than CLASSES classes, only the classes with the lowest and the highest differences are shown.
    """
    first, second = (_class_accuracies(runs, trainer) for trainer in trainers)
    gains = sorted((second[name] - first[name], name) for name in first.keys() & second.keys())
    if not gains:
        return None
    half = CLASSES // 2
    shown = gains if len(gains) <= CLASSES else gains[:half] + gains[-half:]
    figure = Figure(figsize=(7, 0.24 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    values = [gain for gain, _ in shown]
    axes.barh([name for _, name in shown], values, color=["tab:red" if gain < 0 else "tab:green" for gain in values])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel(f"accuracy of {trainers[1]} minus accuracy of {trainers[0]}, percentage points")
    return figure


def _class_accuracies(runs: pd.DataFrame, trainer: str) -> dict[str, float]:
    """Return a trainer's accuracy on each class of each data set, averaged over the trainer's runs."""
    values: dict[str, list[float]] = {}
    for run in records(runs[(runs["trainer"] == trainer) & (runs["state"] == "finished")]):
        for name, value in read_result(Path(run.folder)).per_class.items():
            values.setdefault(f"{name} ({run.dataset}, {run.part})", []).append(value)
    return {name: float(np.mean(accuracies)) for name, accuracies in values.items()}


def confusion(predicted: np.ndarray, label: np.ndarray, classnames: Sequence[str]) -> Figure:
    """Draw the rows of the confusion matrix with the most errors, and the columns where most of these errors go.

    A row belongs to a true class. It shows how many per cent of the class's images got each predicted class. The
    classes of the rows are columns too, so that the correct predictions are in sight.

    Args:
        predicted, label: class indices, both (n_images,).
    """
    matrix = np.zeros(
        (len(classnames), len(classnames))
    )  # images of a true class (row) with a predicted class (column)
    np.add.at(matrix, (label, predicted), 1)
    errors = matrix - np.diag(np.diag(matrix))
    rows, columns = _most_confused(errors)
    matrix /= np.maximum(1, matrix.sum(axis=1, keepdims=True))
    figure = Figure(figsize=(2.2 + 0.2 * len(columns), 2 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * matrix[np.ix_(rows, columns)], cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the class's images", shrink=0.8)
    axes.set_xticks(range(len(columns)), [classnames[number] for number in columns], rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), [classnames[number] for number in rows], fontsize=7)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def _most_confused(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes whose rows and columns a confusion matrix shows.

    The rows are the true classes of the largest confusions. The columns are the same classes and the classes that these
    were mistaken for. There are at most CLASSES rows.

    Args:
        errors: (n_classes, n_classes), number of images of a true class (row) with a wrong class (column).

    Returns:
        Class indices in ascending order: of the rows, of the columns.
    """
    pairs = np.argsort(-errors, axis=None, kind="stable")[: np.count_nonzero(errors)]  # largest confusion first
    true, wrong = np.unravel_index(pairs, errors.shape)
    classes = list(dict.fromkeys(true.tolist()))[:CLASSES] or list(range(min(CLASSES, len(errors))))
    shown = np.isin(true, classes)
    columns = list(dict.fromkeys([*classes, *wrong[shown].tolist()]))[: 2 * CLASSES]
    return np.sort(classes), np.sort(columns)


def worst(images: Sequence[tuple[Image, str, str, str, float]]) -> Figure:
    """Draw wrongly classified images in a grid.

    Args:
        images: tuples (image, file name, true class, predicted class, probability of the true class).
    """
    columns = min(6, len(images))
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.3 * lines), layout="constrained")
    for axes in (grid := figure.subplots(lines, columns, squeeze=False)).flat:
        axes.set_axis_off()
    for axes, (image, file, name, predicted, probability) in zip(grid.flat, images, strict=False):
        axes.imshow(image)
        title = f"{_short(file)}\n{name}\npredicted {predicted}\n({100 * probability:.1g} % {name})"
        axes.set_title(title, fontsize=7)
    return figure


def _short(name: str, length: int = 26) -> str:
    """Shorten a file name to its last `length` letters."""
    return name if len(name) <= length else "…" + name[1 - length :]
