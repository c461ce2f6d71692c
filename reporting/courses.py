"""Draws how loss and accuracy change during the training. `page.write` calls these functions."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dassl.engine.formats import EpochScores, read_epochs, read_losses
from dassl.utils.command_line import one_line
from dassl.utils.errors import InputError
from reporting.plots import TITLES, draw_band, legend_names
from reporting.read import Run, records

Content = TypeVar("Content")


def training(runs: pd.DataFrame, undrawn: list[str]) -> Figure | None:
    """Draw each method's training loss, averaged over its runs, with a band of one standard deviation over runs.

    If the losses of a run are damaged, a note is appended to `undrawn`, and the run is left out.
    """
    points = np.linspace(0, 1, 41)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for run, losses in _contents(runs, read_losses, "training loss", undrawn):
        if len(losses) > 1:
            window = max(1, len(losses) // 20)  # number of batches to average, because single losses are noisy
            smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
            course = np.interp(points, np.linspace(0, 1, len(smooth)), smooth)
            found.setdefault((run.trainer, run.config), []).append(course)
    if not found:
        return None
    names = legend_names(found)
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for method, courses in found.items():
        mean, std = np.mean(courses, axis=0), np.std(courses, axis=0)
        draw_band(axes, 100 * points, mean, std, f"{names[method]} ({len(courses)} runs)", "-")
    axes.set(xlabel="course of training, %", ylabel="training loss")
    axes.legend(fontsize=8)
    return figure


def epochs(runs: pd.DataFrame, undrawn: list[str]) -> Figure | None:
    """Draw the accuracies on test images after each epoch, with a panel for each group of classes.

    Only runs with an epochs.json are drawn. A curve is the mean over a method's runs, with a band of one standard
    deviation, for the epochs that all these runs have. If an epochs.json is damaged, a note is appended to `undrawn`.
    """
    found: dict[str, dict[tuple[str, str], list[pd.Series]]] = {}
    for run, scores in _contents(runs, read_epochs, "accuracies by epoch", undrawn):
        for part, course in _by_part(scores).items():
            found.setdefault(part, {}).setdefault((run.trainer, run.config), []).append(course)
    if not found:
        return None
    figure = Figure(figsize=(3.6 * len(found) + 1, 3.2), layout="constrained")
    for (part, courses), axes in zip(found.items(), figure.subplots(1, len(found), squeeze=False)[0], strict=True):
        for method, name in legend_names(courses).items():
            table = pd.concat(courses[method], axis=1, join="inner")  # a row for each epoch, a column for each run
            if table.empty:
                undrawn.append(f"no accuracies by epoch of {name}, because its runs have no common epochs")
                continue
            label = f"{name} ({table.shape[1]} runs)"
            draw_band(axes, table.index, table.mean(axis=1), table.std(axis=1).fillna(0), label)
        axes.set(xlabel="epoch", ylabel="accuracy, %", title=TITLES[part])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8)
    return figure


def _contents(
    runs: pd.DataFrame, read: Callable[[Path], list[Content]], what: str, undrawn: list[str]
) -> Iterator[tuple[Run, list[Content]]]:
    """Yield each finished run with what `read` reads from its folder. If it is damaged, append a note to `undrawn`."""
    for run in records(runs[runs["state"] == "finished"]):
        try:
            yield run, read(Path(run.folder))
        except (InputError, OSError) as error:
            undrawn.append(f"no {what} of a run: {one_line(error)}")


def _by_part(scores: list[EpochScores]) -> dict[str, pd.Series]:
    """Return {group of classes: accuracies by epoch} for the groups that were tested after every epoch."""
    table = pd.DataFrame(
        {
            "base": [each.base for each in scores],
            "new": [each.new for each in scores],
            "all": [each.all for each in scores],
        },
        index=[each.epoch for each in scores],
        dtype=float,
    )
    return {str(part): course for part, course in table.dropna(axis=1).items() if len(course)}
