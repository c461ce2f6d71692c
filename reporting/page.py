"""The page of a report: one HTML file with tables and plots, which asks nothing of the network."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import softmax

from reporting import plots, tables

Rows = list[dict[str, Any]]
#: Images of the plot of the worst.
_WORST = 12


def write(
    file: Path, title: str, runs: pd.DataFrame, found: dict[str, Rows], notes: Sequence[str], pair: Sequence[str] | None
) -> list[str]:
    """Write the page of the rows of each protocol; returns what could not be drawn, and why.

    Args:
        pair: the two trainers that the plot by class compares; by default the one with the best average, and
            ZeroshotCLIP, or else the second best.
    """
    undrawn: list[str] = []
    drawn = [
        {"name": name, "caption": caption, "svg": _svg(figure)}
        for name, caption, figure in _figures(runs, found, pair, undrawn)
    ]
    marks = (row.get(f"{m}_off") for name, rows in found.items() for row in rows for m in tables.MEASURES[name])
    unfinished = runs[runs["state"] != "finished"].sort_values("state")
    cells = {name: [tables.cells(row, name) for row in rows] for name, rows in found.items()}
    content = {
        "title": title,
        "total": len(runs),
        "finished": int((runs["state"] == "finished").sum()),
        "failures": [_failure(row) for row in unfinished.to_dict("records")],
        "marked": any(marks),
        "tables": {name: tables.without_empty_columns(rows) for name, rows in cells.items()},
        "plots": drawn,
        "notes": [*notes, *undrawn],
    }
    template = jinja2.Template(Path(__file__).with_name("page.html").read_text(), autoescape=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(template.render(content))
    return undrawn


def _what(run: dict[str, Any]) -> str:
    part = "" if run["part"] == "all" else f", {run['part']} classes"
    return f"{run['trainer']} ({run['config']}) on {run['dataset']}{part}, {run['shots']} shots, seed {run['seed']}"


def _failure(run: dict[str, Any]) -> str:
    return f"{run['state']}: {_what(run)}" + (f": {run['error']}" if run["error"] else "")


def _figures(
    runs: pd.DataFrame, found: dict[str, Rows], pair: Sequence[str] | None, undrawn: list[str]
) -> Iterator[tuple[str, str, Figure]]:
    """(name, caption, figure) of all plots that there is data for."""
    for protocol, rows in found.items():
        every: list[tuple[str, str, Figure | None]] = [
            ("bars", "means, with a standard deviation over seeds", plots.bars(rows, protocol)),
        ]
        for by in ("shots", "depth", "length"):
            every.append((by, f"over {by}, with a standard deviation over seeds", plots.curves(runs, protocol, by)))
        if protocol == "base2new":
            every.append(("scatter", "new classes against base classes, a point a data set", plots.scatter(rows)))
        for name, caption, figure in every:
            if figure:
                yield f"{protocol}-{name}", f"{protocol}: {caption}", figure
    runs = runs.loc[sorted(set().union(*(tables.of_protocol(runs, protocol).index for protocol in found)))]
    if figure := plots.training(runs):
        yield "training", "training loss, mean over runs and a standard deviation", figure
    compared = pair or _pair(found)
    if compared and (figure := plots.by_class(runs, compared)):
        yield "classes", f"{compared[1]} against {compared[0]}, by class (mean over seeds)", figure
    elif pair:
        undrawn.append(f"no classes that both {' and '.join(pair)} were tested on")
    yield from _of_one_run(runs, compared, undrawn)


def _pair(found: dict[str, Rows]) -> list[str] | None:
    rows = next(iter(found.values()))
    averages = [row for row in rows if row["dataset"] == "average"]
    measure = "hm" if "hm" in averages[0] else "accuracy"
    ranked = sorted((row for row in averages if row.get(measure) is not None), key=lambda row: -row[measure])
    trainers = list(dict.fromkeys(row["trainer"] for row in ranked))
    if len(trainers) < 2:
        return None
    best = trainers[0] if trainers[0] != "ZeroshotCLIP" else trainers[1]
    return ["ZeroshotCLIP" if "ZeroshotCLIP" in trainers else trainers[1], best]


def _of_one_run(
    runs: pd.DataFrame, pair: Sequence[str] | None, undrawn: list[str]
) -> Iterator[tuple[str, str, Figure]]:
    """Confusion matrix and worst images of the first run with predictions, of the better trainer if it has some."""
    kept = [row for row in runs.to_dict("records") if (Path(row["folder"]) / "predictions.npz").is_file()]
    preferred = [row for row in kept if pair and row["trainer"] == pair[1]]
    if not kept:
        undrawn.append("no confusion matrix and no images: no run has predictions (TEST.SAVE_PREDICTIONS True)")
        return
    run = (preferred or kept)[0]
    what = _what(run)
    predictions = np.load(Path(run["folder"]) / "predictions.npz")
    logits, label = predictions["logits"], predictions["label"]
    if label.ndim > 1:
        undrawn.append(f"no confusion matrix and no images of {what}: it has several tasks")
        return
    dataset = _dataset(Path(run["folder"]))
    if dataset is None:
        names: Sequence[str] = [str(number) for number in range(logits.shape[1])]
        undrawn.append(f"no images and no class names of {run['dataset']}: its data is not here")
    else:
        names = dataset.classnames
    figure = plots.confusion(logits.argmax(1), label, names)
    yield "confusion", f"Confusions of {what}: the classes with most errors", figure
    if dataset is None:
        return
    from dassl.utils import InputError, read_image

    probability = softmax(logits, axis=1)[np.arange(len(label)), label]
    wrong = [number for number in np.argsort(probability, kind="stable") if logits[number].argmax() != label[number]]
    try:
        images = [
            (read_image(dataset.test[n].impath), names[label[n]], names[logits[n].argmax()], probability[n])
            for n in wrong[:_WORST]
        ]
    except InputError as error:
        undrawn.append(f"no images of {what}: {error}")
        return
    if images:
        yield "worst", f"Images that {what} is most wrong on", plots.worst(images)


def _dataset(folder: Path) -> Any:
    """The data set of a run, None where it is not on this machine."""
    from dassl.data.datasets import build_dataset
    from dassl.utils import InputError
    from trainers.common.options import run_config

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return build_dataset(run_config(folder))
    except (InputError, OSError):
        return None


def _svg(figure: Figure) -> str:
    """As an element of a page; texts stay texts."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
