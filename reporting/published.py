"""Reads published results, which reports compare with the results of runs. `reporting.tables` calls `read_published`.

By default, the published results are in assets/paper_results.json. Other files need the same structure.
"""

import json
from pathlib import Path

from reporting.measures import harmonic_mean

PAPER = Path(__file__).resolve().parents[1] / "assets" / "paper_results.json"
#: Maps a data set (or "average") to a dict that maps each measure to its value in per cent.
Figures = dict[str, dict[str, float]]


def read_published(file: str | Path, protocol: str) -> dict[str, Figures]:
    """Return a dict that maps each trainer to its published figures for a protocol.

    The dict is empty if the file has no figures for the protocol.

    Raises:
        ValueError, KeyError, TypeError: the file doesn't have the structure of PAPER.
    """
    paper = json.loads(Path(file).read_text())
    if protocol == "base2new":
        return {
            trainer: _base_to_new(datasets, paper["base2new_average"][trainer])
            for trainer, datasets in paper["base2new"].items()
        }
    if protocol not in paper:
        return {}
    order = paper[protocol]["order"]  # names of the source data set and the target data sets, in the order of `values`
    return {trainer: _by_dataset(order, values) for trainer, values in paper[protocol].items() if trainer != "order"}


def _base_to_new(datasets: Figures, average: list[float]) -> Figures:
    figures = {name: {**both, "hm": harmonic_mean(both["base"], both["new"])} for name, both in datasets.items()}
    return figures | {"average": dict(zip(("base", "new", "hm"), average, strict=True))}


def _by_dataset(order: list[str], values: list[float]) -> Figures:
    """Return the figures of each data set and their average.

    As in the papers, the average leaves out the first data set, which is the source data set.
    """
    named = dict(zip(order, values, strict=True)) | {"average": sum(values[1:]) / (len(values) - 1)}
    return {name: {"accuracy": value} for name, value in named.items()}
