"""Reads published results, which reports compare with the results of runs. `reporting.tables` calls `read_published`.

By default, the published results are in assets/paper_results.json. Other files need the same structure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from dassl.engine.formats import Percent
from dassl.utils.errors import InputError
from dassl.utils.typed import read_json_as
from reporting.measures import harmonic_mean

PAPER = Path(__file__).resolve().parents[1] / "assets" / "paper_results.json"
#: Maps a data set (or "average") to a dict that maps each measure to its value in per cent.
Figures = dict[str, dict[str, float]]


class BaseNew(Struct):
    """The accuracies on base and on new classes."""

    base: Percent
    new: Percent


class Published(Struct):
    """The content of a file of published results."""

    base2new: dict[str, dict[str, BaseNew]] = {}  # trainer -> data set -> accuracies
    base2new_average: dict[str, tuple[Percent, Percent, Percent]] = {}  # trainer -> base, new, harmonic mean
    #: "order" -> names of the source data set and the target data sets; trainer -> accuracies in this order
    cross_dataset: dict[str, list[str | float]] = {}
    domain_generalization: dict[str, list[str | float]] = {}


def read_published(file: str | Path, protocol: str) -> dict[str, Figures]:
    """Return a dict that maps each trainer to its published figures for a protocol.

    The dict is empty if the file has no figures for the protocol.

    Raises:
        InputError: the file doesn't have the structure of PAPER.
    """
    paper = read_json_as(file, Published, f"file of published results with the structure of {PAPER.name}")
    tables = {"cross_dataset": paper.cross_dataset, "domain_generalization": paper.domain_generalization}
    try:
        if protocol == "base2new":
            return {
                trainer: _base_to_new(datasets, paper.base2new_average[trainer])
                for trainer, datasets in paper.base2new.items()
            }
        table = dict(tables.get(protocol, {}))
        order = table.pop("order", [])
        return {trainer: _by_dataset(order, values) for trainer, values in table.items()}
    except (ValueError, KeyError) as error:
        raise InputError(f"{file}: the results of {protocol} don't fit together: {error!r}") from error


def _base_to_new(datasets: Mapping[str, BaseNew], average: Sequence[float]) -> Figures:
    figures = {
        name: {"base": both.base, "new": both.new, "hm": harmonic_mean(both.base, both.new)}
        for name, both in datasets.items()
    }
    return figures | {"average": dict(zip(("base", "new", "hm"), average, strict=True))}


def _by_dataset(order: Sequence[str | float], values: Sequence[str | float]) -> Figures:
    """Return the figures of each data set and their average.

    As in the papers, the average leaves out the first data set, which is the source data set.
    """
    numbers = [float(value) for value in values]
    if len(numbers) < 2:
        raise ValueError("a table needs a source data set and a target data set")
    named = dict(zip(map(str, order), numbers, strict=True)) | {"average": sum(numbers[1:]) / (len(numbers) - 1)}
    return {name: {"accuracy": value} for name, value in named.items()}
