"""Writes the HTML page of a report, with tables and plots. report.py calls `write`.

The page is a single file that loads nothing from the network.
"""

import contextlib
import io
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.figure import Figure
from scipy.special import softmax

from dassl.data.datasets import DatasetBase
from dassl.engine.formats import read_predictions
from dassl.utils.command_line import one_line
from dassl.utils.errors import InputError
from dassl.utils.files import report_full_disk
from reporting import courses, paper, plots, tables
from reporting.protocols import of_protocol
from reporting.read import Run, records

#: Colors for twenty methods. The first ten are matplotlib's usual ones, and the others are lighter.
_COLORS = cycler(color=[matplotlib.colormaps["tab20"](number) for number in (*range(0, 20, 2), *range(1, 20, 2))])

#: Maximum number of images in the plot of the worst predictions.
_WORST = 12


@dataclass(frozen=True)
class Plot:
    """A plot on the page. `name` is the id of the HTML element that holds the plot."""

    name: str
    caption: str
    figure: Figure


def write(
    file: Path,
    title: str,
    runs: pd.DataFrame,
    found: Mapping[str, list[tables.Row]],
    notes: Sequence[str],
    compared: Sequence[str] | None,
) -> list[str]:
    """Write the page to `file`. Returns a note for each plot that could not be drawn.

    Args:
        found: maps each protocol to the rows of its table.
        notes: notes about the runs. The page ends with these notes and with the returned notes about plots.
        compared: the two trainers to compare in the plot that has a bar for each class. If None,
            `_default_comparison` chooses the trainers.
    """
    undrawn: list[str] = []
    # Names are text: a $ in a name must not start a formula, and letters that matplotlib's font lacks don't matter.
    with matplotlib.rc_context({"text.parse_math": False, "axes.prop_cycle": _COLORS}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = [
            {"name": plot.name, "caption": plot.caption, "svg": _svg(plot.figure)}
            for plot in _plots(runs, found, compared, undrawn)
        ]
    is_off = (value.is_off for rows in found.values() for row in rows for value in row.values.values())
    unfinished = records(runs[runs["state"] != "finished"].sort_values("state"))
    cells = {name: [tables.cells(row, name) for row in tables.shown(rows)] for name, rows in found.items()}
    content = {
        "title": title,
        "total": len(runs),
        "finished": len(runs) - len(unfinished),
        "failures": [f"{run.state}: {_title(run)}" + (f": {run.error}" if run.error else "") for run in unfinished],
        "marked": any(is_off),
        "tables": {name: tables.without_empty_columns(rows) for name, rows in cells.items()},
        "plots": drawn,
        "notes": [*notes, *tables.sources(itertools.chain(*found.values())), *undrawn],
    }
    template = jinja2.Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"), autoescape=True)
    text = template.render(content)
    with report_full_disk(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        # Names of folders may not be UTF-8. Such letters become escapes.
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    return undrawn


def _title(run: Run) -> str:
    classes = "" if run.part == "all" else f", {run.part} classes"
    return f"{run.trainer} ({run.config}) on {run.dataset}{classes}, {run.shots} shots, seed {run.seed}"


def _plots(
    runs: pd.DataFrame, found: Mapping[str, list[tables.Row]], compared: Sequence[str] | None, undrawn: list[str]
) -> Iterator[Plot]:
    """Yield the plots of the page. If a plot can't be drawn because data is missing, append a note to `undrawn`."""
    for protocol, rows in found.items():
        yield from _plots_of_protocol(runs, protocol, rows)
    runs = runs.loc[sorted(set().union(*(of_protocol(runs, protocol).index for protocol in found)))]
    if figure := courses.training(runs, undrawn):
        yield Plot("training", "training loss: mean over runs, with a band of one standard deviation", figure)
    if figure := courses.epochs(runs, undrawn):
        yield Plot(
            "epochs", "test accuracy after each epoch: mean over runs, with a band of one standard deviation", figure
        )
    trainers = compared or _default_comparison(found)
    if trainers and (figure := plots.by_class(runs, trainers)):
        yield Plot("classes", f"accuracy of {trainers[1]} against {trainers[0]}, by class (mean over seeds)", figure)
    elif compared:
        undrawn.append(f"no plot by class, because {' and '.join(compared)} were not tested on a common class")
    yield from _plots_of_one_run(runs, trainers, undrawn)


def _plots_of_protocol(runs: pd.DataFrame, protocol: str, rows: list[tables.Row]) -> Iterator[Plot]:
    shots = max(row.shots for row in rows)
    content = paper.table([row for row in rows if row.shots == shots], protocol)
    caption = " ".join(["means, with the standard deviation over seeds.", *paper.notes(content)])
    figures = {"bars": (caption, plots.bars(content, protocol, f"accuracy, % ({shots} shots)"))}
    for by in ("shots", "depth", "length"):
        figures[by] = f"means against {by}, with the standard deviation over seeds", plots.curves(runs, protocol, by)
    if protocol == "base2new":
        figures["scatter"] = "accuracy on new against base classes, a point for each data set", plots.scatter(rows)
    for name, (caption, figure) in figures.items():
        if figure:
            yield Plot(f"{protocol}-{name}", f"{protocol}: {caption}", figure)


def _default_comparison(found: Mapping[str, list[tables.Row]]) -> list[str] | None:
    """Return the two trainers to compare if the user names none. None if there are fewer than two trainers.

    The first trainer is ZeroshotCLIP; or, if ZeroshotCLIP has no runs, the trainer with the second-best average. The
    second trainer is the trainer with the best average, where ZeroshotCLIP is ignored.
    """
    averages = [row for row in next(iter(found.values())) if row.dataset == "average"]
    measure = "hm" if "hm" in averages[0].values else "accuracy"
    means = [(mean, row.trainer) for row in averages if (mean := row.values[measure].mean) is not None]
    trainers = list(dict.fromkeys(trainer for _, trainer in sorted(means, key=lambda pair: -pair[0])))
    if len(trainers) < 2:
        return None
    best = trainers[0] if trainers[0] != "ZeroshotCLIP" else trainers[1]
    return ["ZeroshotCLIP" if "ZeroshotCLIP" in trainers else trainers[1], best]


def _plots_of_one_run(runs: pd.DataFrame, trainers: Sequence[str] | None, undrawn: list[str]) -> Iterator[Plot]:
    """Yield the confusion matrix and the worst images of one run.

    The plots use the first run of the trainer `trainers[1]` that has saved its predictions. If this trainer has no such
    run, the plots use the first run of any trainer that has saved its predictions.
    """
    saved = [run for run in records(runs) if (Path(run.folder) / "predictions.npz").is_file()]
    saved.sort(key=lambda run: not trainers or run.trainer != trainers[1])  # stable: runs of trainers[1] first
    found = _first_readable(saved, undrawn)
    if found is None:
        undrawn.append("no confusion matrix and no images, because no run had the option TEST.SAVE_PREDICTIONS True")
        return
    run, logits, label = found  # logits (n_images, n_classes), label (n_images,)
    if label.ndim > 1:
        undrawn.append(f"no confusion matrix and no images of {_title(run)}, because the run has several tasks")
        return
    dataset = _build_dataset(Path(run.folder))
    reason = "isn't on this machine"
    if dataset and (len(dataset.classnames), len(dataset.test or [])) != (logits.shape[1], len(logits)):
        dataset, reason = None, "has changed"
    if dataset is None:
        names = [str(number) for number in range(logits.shape[1])]
        undrawn.append(f"no images and no class names of {run.dataset}, because its data {reason}")
    else:
        names = list(dataset.classnames)
    figure = plots.confusion(logits.argmax(1), label, names)
    yield Plot("confusion", f"Confusion matrix of {_title(run)}, for the classes with the most errors", figure)
    if dataset is not None:
        yield from _worst_images(run, dataset, logits, label, undrawn)


def _first_readable(runs: Sequence[Run], undrawn: list[str]) -> tuple[Run, np.ndarray, np.ndarray] | None:
    """Return the first run whose predictions aren't damaged, with its logits and labels. None if there is none."""
    for run in runs:
        try:
            return run, *read_predictions(Path(run.folder))
        except (InputError, OSError) as error:
            undrawn.append(f"no confusion matrix of a run: {one_line(error)}")
    return None


def _worst_images(
    run: Run, dataset: DatasetBase, logits: np.ndarray, label: np.ndarray, undrawn: list[str]
) -> Iterator[Plot]:
    """Yield a plot of the wrongly classified images whose true classes got the lowest probabilities."""
    from dassl.utils import read_image

    names, predicted, items = dataset.classnames, logits.argmax(1), dataset.test or []
    probability = softmax(logits, axis=1)[np.arange(len(label)), label]  # (n_images,)
    wrong = [number for number in np.argsort(probability, kind="stable") if predicted[number] != label[number]]
    try:
        images = [
            (
                read_image(items[n].impath),
                Path(items[n].impath).name,
                names[label[n]],
                names[predicted[n]],
                float(probability[n]),
            )
            for n in wrong[:_WORST]
        ]
    except InputError as error:
        undrawn.append(f"no images of {_title(run)}: {error}")
        return
    if images:
        yield Plot("worst", f"Wrong predictions of {_title(run)}, least probable true class first", plots.worst(images))


def _build_dataset(folder: Path) -> DatasetBase | None:
    """Return the data set that a run tested, or None if the data isn't on this machine."""
    from dassl.config import get_cfg_default, merge_file
    from dassl.data.datasets import build_dataset
    from dassl.utils import load_plugins

    load_plugins("datasets")
    cfg = get_cfg_default()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            merge_file(cfg, folder / "config.yaml", only=("DATASET", "SEED"))
            return build_dataset(cfg)
    except (InputError, OSError):
        return None


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG element. Letters are saved as text, not as drawn shapes."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
