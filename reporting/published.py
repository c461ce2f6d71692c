"""Reads published results, which reports compare with the results of runs. `reporting.tables` calls `read_published`.

By default, there are two files. PAPER has the figures of MaPLe's paper. SUCCESSORS has those of other methods, and
their sources. Another file needs the structure of PAPER.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from dassl.engine.formats import Percent
from dassl.utils.errors import InputError
from dassl.utils.typed import read_json_as
from reporting.measures import harmonic_mean

PAPER = Path(__file__).resolve().parents[1] / "assets" / "paper_results.json"
SUCCESSORS = PAPER.with_name("successors_results.json")
#: What the provenance codes of SUCCESSORS mean.
PROVENANCE = {
    "E": "copied from a reprint",
    "R": "from memory, not looked up: check them before you quote them",
    "C": "copied from the official repository",
}
#: Trainers whose methods have another name in SUCCESSORS.
_TRAINERS = {
    "MMA": "MultiModalAdapter",
    "CLIP-LoRA": "CLIPLoRA",
    "CLIP-Adapter": "CLIP_Adapter",
    "Tip-Adapter": "TipAdapter",
    "Tip-Adapter-F": "TipAdapterF",
}
_FEW_SHOT = (1, 2, 4, 8, 16)
#: Maps each measure to its value in per cent.
Values = Mapping[str, float]
#: Trainer, backbone and number of shots.
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Figures:
    """The published results of one method with one backbone and number of shots."""

    by_dataset: Mapping[str, Values]  # data set, or "average", -> values
    source: str
    provenance: str = ""  # a key of PROVENANCE, or "" if the source itself was read
    note: str = ""

    def describe(self, trainer: str, backbone: str) -> str:
        """Return a line that names the source, for a note below a table."""
        how = f" ({self.provenance}: {PROVENANCE[self.provenance]})" if self.provenance else ""
        return " ".join(f"Published figures of {trainer} with {backbone}: {self.source}{how}. {self.note}".split())


class BaseNew(Struct):
    """The accuracies on base and on new classes."""

    base: Percent
    new: Percent


class Published(Struct):
    """The content of a file with the structure of PAPER. All results are for ViT-B/16 and 16 shots."""

    source: str = ""
    base2new: dict[str, dict[str, BaseNew]] = {}  # trainer -> data set -> accuracies
    base2new_average: dict[str, tuple[Percent, Percent, Percent]] = {}  # trainer -> base, new, harmonic mean
    #: "order" -> names of the source data set and the target data sets; trainer -> accuracies in this order
    cross_dataset: dict[str, list[str | float]] = {}
    domain_generalization: dict[str, list[str | float]] = {}


class _Result(Struct, kw_only=True):
    """What all results in SUCCESSORS have: where they were published."""

    backbone: str = "ViT-B/16"
    source: str
    provenance: Literal["E", "R", "C"]
    note: str = ""

    def figures(self, by_dataset: Mapping[str, Values]) -> Figures:
        return Figures(by_dataset, self.source, self.provenance, self.note)


class _Average(BaseNew):
    hm: Percent


class _BaseToNew(_Result, kw_only=True):
    shots: int
    datasets: dict[str, BaseNew]
    average: _Average


class _FewShot(_Result, kw_only=True):
    shots: dict[str, dict[str, Percent]] = {}  # number of shots -> data set -> accuracy
    average: dict[str, Percent] = {}  # number of shots -> average over the data sets
    zero_shot: dict[str, Percent] = {}  # data set -> accuracy of a method that needs no images


class _FewShotTable(Struct):
    figures: dict[str, _FewShot]


class _CrossDataset(_Result, kw_only=True):
    source_accuracy_ImageNet: Percent
    targets: dict[str, Percent]
    average: Percent


class _Domains(_Result, kw_only=True):
    source_accuracy_ImageNet: Percent
    ImageNetV2: Percent
    ImageNetSketch: Percent
    ImageNetA: Percent
    ImageNetR: Percent
    average: Percent

    @property
    def targets(self) -> dict[str, Percent]:
        return {
            "ImageNetV2": self.ImageNetV2, "ImageNetSketch": self.ImageNetSketch,
            "ImageNetA": self.ImageNetA, "ImageNetR": self.ImageNetR,
        }  # fmt: skip


class _Successors(Struct):
    """The parts of SUCCESSORS that reports use. Each maps the name of a method to its results."""

    base2new: dict[str, _BaseToNew]
    few_shot: dict[str, _FewShot]
    few_shot_clip_lora_protocol: _FewShotTable
    few_shot_rn50: dict[str, _FewShot]
    cross_dataset: dict[str, _CrossDataset]
    domain_generalization: dict[str, _Domains]


def read_published(protocol: str, file: str | Path | None = None) -> dict[Key, Figures]:
    """Return the published figures for a protocol. The dict is empty if there are none.

    Args:
        file: a file with the structure of PAPER. None: PAPER and SUCCESSORS. If both have figures for the same method,
            those of PAPER count.

    Raises:
        InputError: the file doesn't have the structure of PAPER.
    """
    found = dict(_of_paper(Path(file or PAPER), protocol))
    if file is None:
        content = read_json_as(SUCCESSORS, _Successors, "file of published results")
        for (method, backbone, shots), figures in _of_successors(content, protocol):
            found.setdefault((_TRAINERS.get(method, method), backbone, shots), figures)
    return found


def _of_paper(file: Path, protocol: str) -> Iterator[tuple[Key, Figures]]:
    paper = read_json_as(file, Published, f"file of published results with the structure of {PAPER.name}")
    source = paper.source or file.name
    try:
        if protocol == "base2new":
            for trainer, datasets in paper.base2new.items():
                yield (
                    (trainer, "ViT-B/16", 16),
                    Figures(_base_to_new(datasets, *paper.base2new_average[trainer]), source),
                )
            return
        tables = {"cross_dataset": paper.cross_dataset, "domain_generalization": paper.domain_generalization}
        table = dict(tables.get(protocol, {}))
        order = [str(name) for name in table.pop("order", [])]
        for trainer, values in table.items():
            accuracies = dict(zip(order, map(float, values), strict=True))
            if len(accuracies) < 2:
                raise ValueError("a table needs a source data set and a target data set")
            targets = list(accuracies.values())[1:]  # as in the papers, the average leaves out the source data set
            yield (trainer, "ViT-B/16", 16), Figures(_accuracies(accuracies, sum(targets) / len(targets)), source)
    except (ValueError, KeyError) as error:
        raise InputError(f"{file}: the results of {protocol} don't fit together: {error!r}") from error


def _of_successors(content: _Successors, protocol: str) -> Iterator[tuple[Key, Figures]]:
    """Yield the figures in SUCCESSORS. If two tables have the same method, the caller keeps the first.

    The methods have their names in SUCCESSORS, not those of trainers.
    """
    if protocol == "base2new":
        for method, result in content.base2new.items():
            average = result.average
            by_dataset = _base_to_new(result.datasets, average.base, average.new, average.hm)
            yield (method, result.backbone, result.shots), result.figures(by_dataset)
    elif protocol == "few_shot":
        for table in (content.few_shot, content.few_shot_clip_lora_protocol.figures, content.few_shot_rn50):
            for method, few_shot in table.items():
                yield from _by_shots(method, few_shot)
    else:
        crossed: Mapping[str, _CrossDataset | _Domains]
        crossed = content.cross_dataset if protocol == "cross_dataset" else content.domain_generalization
        for method, each in crossed.items():
            accuracies = {"ImageNet (source)": each.source_accuracy_ImageNet, **each.targets}
            yield (method, each.backbone, 16), each.figures(_accuracies(accuracies, each.average))


def _by_shots(method: str, result: _FewShot) -> Iterator[tuple[Key, Figures]]:
    """Yield the figures of a method for each number of shots. Without a published average, it is computed."""
    for shots in map(str, _FEW_SHOT):
        if accuracies := result.zero_shot or result.shots.get(shots):
            average = result.average.get(shots, sum(accuracies.values()) / len(accuracies))
            yield (method, result.backbone, int(shots)), result.figures(_accuracies(accuracies, average))


def _base_to_new(datasets: Mapping[str, BaseNew], base: float, new: float, hm: float) -> dict[str, Values]:
    """Return the values of each data set, and the given averages."""
    values: dict[str, Values] = {
        name: {"base": both.base, "new": both.new, "hm": harmonic_mean(both.base, both.new)}
        for name, both in datasets.items()
    }
    return values | {"average": {"base": base, "new": new, "hm": hm}}


def _accuracies(by_dataset: Mapping[str, float], average: float) -> dict[str, Values]:
    return {name: {"accuracy": value} for name, value in {**by_dataset, "average": average}.items()}
