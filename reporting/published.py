"""The published figures that reports compare with: assets/paper_results.json, or a file of the same form."""

import json
from pathlib import Path

from reporting.measures import harmonic_mean

PAPER = Path(__file__).resolve().parents[1] / "assets" / "paper_results.json"
#: Data set (or "average") -> measure -> per cent.
Figures = dict[str, dict[str, float]]


def read_published(file: str | Path, protocol: str) -> dict[str, Figures]:
    """Return the published figures of a protocol by trainer. Empty: the file has none of that protocol.

    Raises:
        ValueError, KeyError, TypeError: the file doesn't have the form of PAPER.
    """
    paper = json.loads(Path(file).read_text())
    if protocol == "base2new":
        return {
            trainer: _base_to_new(datasets, paper["base2new_average"][trainer])
            for trainer, datasets in paper["base2new"].items()
        }
    if protocol not in paper:
        return {}
    order = paper[protocol]["order"]  # the source, then the targets
    return {trainer: _by_dataset(order, values) for trainer, values in paper[protocol].items() if trainer != "order"}


def _base_to_new(datasets: Figures, average: list[float]) -> Figures:
    figures = {name: {**both, "hm": harmonic_mean(both["base"], both["new"])} for name, both in datasets.items()}
    return figures | {"average": dict(zip(("base", "new", "hm"), average, strict=True))}


def _by_dataset(order: list[str], values: list[float]) -> Figures:
    """The average leaves the source out, as in the papers."""
    named = dict(zip(order, values, strict=True)) | {"average": sum(values[1:]) / (len(values) - 1)}
    return {name: {"accuracy": value} for name, value in named.items()}
