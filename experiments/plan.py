"""Plans of sweeps: which runs a file of configs/sweeps/ stands for, and what has become of them."""

import functools
import itertools
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import train
from experiments import run as protocols

FILES = train.ROOT / "configs" / "sweeps"
#: Keys of a sweep's file that hold lists, each with the type of its items.
LISTS: dict[str, type] = {
    "trainers": str, "datasets": str, "seeds": int, "shots": int, "depths": int, "lengths": int, "backbones": str,
}  # fmt: skip
#: A protocol's runs, one after another; the last is done for all of a job's data sets.
CHAINS = {
    "base2new": ("base2new_train", "base2new_test"),
    "few_shot": ("few_shot",),
    "cross_dataset": ("xd_train", "xd_test"),
}


@dataclass(frozen=True)
class Sweep:
    """A sweep's file: every trainer x data set x seed x shots x depth x length x backbone of a protocol."""

    protocol: str  # of CHAINS; domain generalisation is cross_dataset to ImageNet's variants
    trainers: list[str]  # each TRAINER[:CONFIG] [--variant NAME] [KEY VALUE ...]
    datasets: list[str]  # names of configs/datasets/
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    shots: list[int] = field(default_factory=lambda: [16])
    depths: list[int] = field(default_factory=list)  # PROMPT_DEPTH... of every trainer that has it
    lengths: list[int] = field(default_factory=list)  # N_CTX..., likewise
    backbones: list[str] = field(default_factory=list)  # each NAME [KEY VALUE ...]
    options: str = ""  # words for every run; a trainer's own words, depth, length and backbone go before them

    @classmethod
    def read(cls, name: str) -> "Sweep":
        """The sweep of that name, or in that file. Raises InputError for an unknown name or key, or a wrong type."""
        import yaml

        from dassl.utils import InputError, unknown

        file = Path(name) if name.endswith((".yaml", ".yml")) else FILES / f"{name}.yaml"
        if not file.is_file():
            raise unknown("sweep", name, [path.stem for path in FILES.glob("*.yaml")])
        try:
            content = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise InputError(f"{file} is not valid YAML: {error}") from error
        if not isinstance(content, dict) or not {"protocol", "trainers", "datasets"} <= set(content):
            raise InputError(f"{file} must say protocol, trainers and datasets")
        known = [each.name for each in fields(cls)]
        for key, value in content.items():
            if key not in known:
                raise unknown(f"key in {file}", key, known)
            kind = LISTS.get(key)
            good = isinstance(value, list) and all(type(item) is kind for item in value) if kind else type(value) is str
            if not good:
                raise InputError(f"{file}: {key} must be " + (f"a list of {kind.__name__}" if kind else "a text"))
        if content["protocol"] not in CHAINS:
            raise unknown(f"protocol in {file}", content["protocol"], CHAINS)
        return cls(**content)

    def narrowed(self, given: dict[str, Any], words: list[str]) -> "Sweep":
        """With lists of the command line ("a,b") in place of the file's, and more words for every run."""
        from dassl.utils import InputError

        lists: dict[str, Any] = {}
        for key, kind in LISTS.items():
            if given.get(key):
                try:
                    items = re.split(r",(?![^(]*\))", given[key])  # not within INPUT.SIZE (48,48)
                    lists[key] = [kind(item) for item in items]
                except ValueError as error:
                    raise InputError(f"--{key} takes numbers like 1,2,3, not {given[key]}") from error
        return replace(self, options=f"{self.options} {shlex.join(words)}", **lists)


@dataclass
class PlannedRun:
    """A run of a sweep: its command line for protocols.py, what of its result is known before, what became of it."""

    line: list[str]
    folder: str
    facts: dict[str, Any]
    state: str = "to do"  # cut off, finished, failed
    error: str = ""

    @classmethod
    def of(cls, line: list[str]) -> "PlannedRun":
        """Raises InputError for an unknown trainer, config or data set; a run that must fail otherwise is planned."""
        from dassl.data.datasets import DATASET_REGISTRY
        from dassl.engine import get_trainer
        from dassl.engine.run_folder import dataset_label
        from dassl.utils import find

        command = next(protocols.commands(line))
        args = train.parse_arguments(command.words)
        options = protocols.options_of(args)
        args.opts = [word for key in ("DATASET.PATH",) if key in options for word in (key, options[key])]
        cfg = train.build_config(args)  # without the other options: one of them may be what will fail
        kind = find(DATASET_REGISTRY, "data set", cfg.DATASET.NAME)
        source = dataset_label(cfg)
        if line[0] == "xd_test":
            source = dataset_label(protocols.dataset_config(protocols.dataset_file(command.facts["source"])))
        facts = {
            "dataset": dataset_label(cfg),
            "trained_on": source if getattr(get_trainer(args.trainer), "checkpoints", True) else "",
            "test_only": getattr(kind, "test_only", False),
            "subsample_classes": options["DATASET.SUBSAMPLE_CLASSES"],
            "trainer": args.trainer,
            "backbone": options.get("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME),
            "config": command.facts["config"],
            "shots": int(command.facts["shots"]),
            "seed": int(command.facts["seed"]),
        }
        run = cls(line, args.output_dir, facts)
        run.examine()
        return run

    @property
    def is_left(self) -> bool:
        """Whether it is still to be done, or to be gone on with."""
        return self.state in ("to do", "cut off")

    def examine(self) -> None:
        """See what has become of it."""
        from dassl.engine.run_folder import is_finished
        from dassl.utils import InputError
        from dassl.utils.torchtools import POINTER

        try:
            words = next(protocols.commands(self.line)).words
            finished = is_finished(train.build_config(train.parse_arguments(words)))
        except InputError as error:
            self.state, self.error = "failed", str(error)
            return
        cut = any(Path(self.folder).glob(f"*/{POINTER}"))
        self.state = "finished" if finished else "cut off" if cut else "to do"


#: Runs one after another, the first training what the others test.
Job = list[PlannedRun]


def plan(sweep: Sweep) -> list[Job]:
    """All jobs of a sweep. Raises InputError for an unknown trainer, config or data set, or two runs in one folder."""
    from dassl.utils import InputError

    jobs = []
    for spec in sweep.trainers:
        for seed, shots in itertools.product(sweep.seeds, sweep.shots):
            for datasets in _groups(sweep):
                for words in variations(sweep, spec, datasets[0]):
                    words = ["DATASET.NUM_SHOTS", str(shots), *words]
                    lines = _chain(sweep.protocol, shlex.split(spec)[0], datasets, str(seed), words)
                    jobs.append([PlannedRun.of(line) for line in lines])
    runs: dict[str, PlannedRun] = {}
    for run in (run for job in jobs for run in job):
        other = runs.setdefault(run.folder, run)
        if other is not run:
            both = f"{shlex.join(other.line)}; {shlex.join(run.line)}"
            raise InputError(f"two runs of the sweep have the folder {run.folder}: {both}")
    return jobs


def _groups(sweep: Sweep) -> list[list[str]]:
    """Data sets that one job is for: those with the same source where prompts are tested across data sets."""
    if sweep.protocol != "cross_dataset":
        return [[dataset] for dataset in sweep.datasets]
    sources: dict[str, list[str]] = {}
    for dataset in sweep.datasets:
        sources.setdefault(protocols.source_of(protocols.dataset_file(dataset)), []).append(dataset)
    return list(sources.values())


def _chain(protocol: str, spec: str, datasets: list[str], seed: str, words: list[str]) -> Iterator[list[str]]:
    *first, last = CHAINS[protocol]
    for name in first:
        source = protocol == "cross_dataset"
        dataset = protocols.source_of(protocols.dataset_file(datasets[0])) if source else datasets[0]
        yield [name, spec, dataset, seed, *words]
    for dataset in datasets:
        yield [last, spec, dataset, seed, *words]


def variations(sweep: Sweep, spec: str, dataset: str) -> Iterator[list[str]]:
    """For every depth, length and backbone the words that a trainer's runs get, with a --variant that names them."""
    trainer, *rest = shlex.split(spec)
    variant, words = protocols.split_variant(rest)
    variant_of_all, options = protocols.split_variant(shlex.split(sweep.options))
    keys = {"depth": _keys(trainer, dataset, "PROMPT_DEPTH"), "length": _keys(trainer, dataset, "N_CTX")}
    for depth, length, backbone in itertools.product(
        sweep.depths if keys["depth"] and sweep.depths else [0],
        sweep.lengths if keys["length"] and sweep.lengths else [0],
        sweep.backbones or [""],
    ):
        names, varied = [variant, variant_of_all], [*options, *words]  # of what is said twice the last wins
        for name, number in (("depth", depth), ("length", length)):
            if number:
                names.append(f"{name}{number}")
                varied += [word for key in keys[name] for word in (key, str(number))]
        if backbone:
            name, *more = shlex.split(backbone)
            names.append("".join(c if c.isalnum() else "-" for c in name).lower())
            varied += ["MODEL.BACKBONE.NAME", name, *more]
        named = "_".join(filter(None, names))
        yield [*varied, *(["--variant", named] if named else [])]


@functools.cache  # asked for every seed and number of shots
def _keys(spec: str, dataset: str, start: str) -> list[str]:
    """The trainer's config keys that begin so, but for those that its config file switches off by a 0."""
    command = next(protocols.commands(["few_shot", spec, dataset, "1"]))
    node = command.facts["node"]
    options = train.build_config(train.parse_arguments(command.words)).TRAINER.get(node, {})
    return [f"TRAINER.{node}.{key}" for key, value in options.items() if key.startswith(start) and value]


def write(jobs: list[Job], folder: Path) -> None:
    """Write the plan and what became of it as sweep.json; folders of runs are relative to the sweep's."""
    from dassl.utils import write_json

    runs = [
        asdict(run) | {"job": number, "folder": os.path.relpath(run.folder, folder)}
        for number, job in enumerate(jobs)
        for run in job
    ]
    write_json({"runs": runs}, folder / "sweep.json")
