"""Plans sweeps. Lists the runs that files in configs/sweeps/ declare, and finds the state of each run.

`sweep.py` calls `Sweep.read`, then `plan`. A planned run holds a command line for `run.py`. No run is started here.
"""

import argparse
import functools
import itertools
import math
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dassl.engine.run_folder import contains_run, reason_to_run
from dassl.utils.errors import InputError
from dassl.utils.files import write_json
from experiments import finished
from experiments.arguments import Run
from experiments.classes import TRAINERS
from experiments.config import config_of, dataset_file, resolve, settings_of
from experiments.known_config import ConfigChecker, known_default, known_fields
from experiments.run import runs, source_of
from experiments.sweep_file import Sweep, name_and_options, split_words
from trainers.common.options import node_of

#: {protocol in a sweep's file: entries of PROTOCOLS that each job executes, in this order}. If there are two entries,
#: the first trains the prompts that the second tests. The last entry is executed once for each data set of the job.
CHAINS = {
    "base2new": ("base2new_train", "base2new_test"),
    "few_shot": ("few_shot",),
    "cross_dataset": ("xd_train", "xd_test"),
}
_MOST_JOBS = 20_000


@dataclass
class PlannedRun:
    """A run of a sweep, together with its command line for run.py and its state, which changes during the sweep."""

    argv: list[str]
    run: Run  # the run that the command line describes
    known: dict[str, object]  # fields of result.json that are known before the run has written this file
    state: str = "to do"  # "to do", "cut off" (interrupted), "finished" or "failed"
    error: str = ""  # why the run failed; "" for other states

    @classmethod
    def of(cls, argv: list[str], checker: ConfigChecker | None = None) -> "PlannedRun":
        """Return the planned run for a command line of run.py. The run's state is read from the run's folder.

        Raises InputError for an unknown trainer, config or data set. After any other input error, the state is
        "failed", so that one wrong run doesn't stop the whole sweep.
        """
        planned = cls(argv, run := next(runs(argv)), known_fields(argv[0], run))
        planned.examine(checker or ConfigChecker())
        return planned

    @property
    def folder(self) -> str:
        """The output folder of the run."""
        return self.run.output_dir

    @property
    def is_left(self) -> bool:
        """Whether the run must still be started or resumed, which means that its state is "to do" or "cut off"."""
        return self.state in ("to do", "cut off")

    def examine(self, checker: ConfigChecker | None = None) -> None:
        """Set the run's state and error from the content of its folder. Imports torch only if necessary.

        Args:
            checker: checks the config of a run that hasn't been started. None: don't check it.
        """
        folder = Path(self.folder)
        try:
            if not contains_run(folder, only_tests=False):
                self.state = "to do"
                if checker:
                    checker.check(self.run)
            elif finished.is_unchanged(self.run):
                self.state = "finished"
            elif reason_to_run(cfg := resolve(self.run)) is None:
                finished.verify(self.run, cfg)
                self.state = "finished"
            else:
                self.state = "cut off"
        except InputError as error:
            self.state, self.error = "failed", str(error)


#: The runs of a job, in the order of their execution. The first run trains prompts. The other runs test these prompts.
Job = list[PlannedRun]


def plan(sweeps: Sequence[Sweep]) -> list[Job]:
    """Return all jobs of the sweeps, sweep after sweep.

    A run that occurs several times is planned once. If a job begins with a run of an earlier job, such as the training
    on ImageNet, its other runs are added to that job.

    Raises InputError for an unknown trainer, config or data set, if two different runs have the same folder, or if a
    sweep has too many jobs.
    """
    checker = ConfigChecker()
    jobs: list[Job] = []
    planned: dict[str, tuple[PlannedRun, Job]] = {}  # folder -> its run, and the run's job
    for candidate in (job for sweep in sweeps for job in _jobs(sweep, checker)):
        known = planned.get(candidate[0].folder)
        job: Job = known[1] if known else []
        if not known:
            jobs.append(job)
        for run in candidate:
            other = planned.setdefault(run.folder, (run, job))[0]
            if other is run:
                job.append(run)
            elif other.argv != run.argv:
                raise InputError(
                    f"two runs would write to the same folder {run.folder}. Leave one of them out, or give one a "
                    f"--variant. Their command lines: {shlex.join(other.argv)}; {shlex.join(run.argv)}"
                )
    return jobs


def _jobs(sweep: Sweep, checker: ConfigChecker) -> Iterator[Job]:
    lists = (sweep.trainers, sweep.datasets, sweep.seeds, sweep.shots, sweep.depths, sweep.lengths, sweep.backbones)
    if math.prod(len(values) or 1 for values in lists) > _MOST_JOBS:
        raise InputError(f"the sweep has more than {_MOST_JOBS:,} combinations. Split it into several sweeps")
    for spec in sweep.trainers:
        trainer = name_and_options(spec, "the trainer")[0]
        for seed, shots in itertools.product(sweep.seeds, sweep.shots):
            for datasets in _groups(sweep):
                for variation in variations(sweep, spec, datasets[0]):
                    options = ["DATASET.NUM_SHOTS", str(shots), *variation]
                    lines = _chain(sweep.protocol, trainer, datasets, str(seed), options)
                    yield [PlannedRun.of(argv, checker) for argv in lines]


def _groups(sweep: Sweep) -> list[list[str]]:
    """Return a list of data sets for each job.

    Usually, each job has one data set. In the cross-dataset protocol, a job has all data sets that share a source data
    set, because the prompts are trained once on the source and then tested on all these data sets.
    """
    if sweep.protocol != "cross_dataset":
        return [[dataset] for dataset in sweep.datasets]
    sources: dict[str, list[str]] = {}
    for dataset in sweep.datasets:
        sources.setdefault(source_of(dataset_file(dataset)), []).append(dataset)
    return list(sources.values())


def _chain(protocol: str, spec: str, datasets: list[str], seed: str, options: list[str]) -> Iterator[list[str]]:
    """Yield a job's command lines for run.py, in the order of their execution."""
    *first, last = CHAINS[protocol]
    for name in first:
        dataset = source_of(dataset_file(datasets[0])) if protocol == "cross_dataset" else datasets[0]
        yield [name, spec, dataset, seed, *options]
    for dataset in datasets:
        yield [last, spec, dataset, seed, *options]


def variations(sweep: Sweep, spec: str, dataset: str) -> Iterator[list[str]]:
    """Yield one list of options for every combination of depth, length and backbone of a trainer.

    Each list ends with --variant and a name that describes the combination, so each combination gets its own folder.
    """
    trainer, rest = name_and_options(spec, "the trainer")
    variant, options_of_trainer = _split_variant(rest)
    variant_of_all, options = _split_variant(split_words(sweep.options, "options"))
    keys = {"depth": _keys(trainer, dataset, "PROMPT_DEPTH"), "length": _keys(trainer, dataset, "N_CTX")}
    for depth, length, backbone in itertools.product(
        sweep.depths if keys["depth"] and sweep.depths else [0],
        sweep.lengths if keys["length"] and sweep.lengths else [0],
        sweep.backbones or [""],
    ):
        names, varied = [variant, variant_of_all], [*options, *options_of_trainer]  # later options replace earlier ones
        for name, number in (("depth", depth), ("length", length)):
            if number:
                names.append(f"{name}{number}")
                varied += [word for key in keys[name] for word in (key, str(number))]
        if backbone:
            name, more = name_and_options(backbone, "the backbone")
            names.append("".join(c if c.isalnum() else "-" for c in name).lower())
            varied += ["MODEL.BACKBONE.NAME", name, *more]
        full_name = "_".join(filter(None, names))
        yield [*varied, *(["--variant", full_name] if full_name else [])]


def _split_variant(options: list[str]) -> tuple[str, list[str]]:
    """Return the value of --variant ("" if it is missing), and the list of the other options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--variant", default="")
    found, others = parser.parse_known_args(options)
    return found.variant, others


@functools.cache  # cached, because `plan` repeats the call for every seed and number of shots
def _keys(spec: str, dataset: str, start: str) -> list[str]:
    """Return the trainer's config keys whose names begin with `start`. Keys with the value 0 are left out."""
    run = next(runs(["few_shot", spec, dataset, "1"]))
    node = node_of(TRAINERS.find(run.trainer))
    values = {f"TRAINER.{node}.{key}": value for key, value in known_default().TRAINER.get(node, {}).items()}
    for file in (run.dataset, config_of(run)):
        values |= {key: setting.value for key, setting in settings_of(file).items() if key in values}
    return [key for key, value in values.items() if key.startswith(f"TRAINER.{node}.{start}") and value]


def write(jobs: list[Job], folder: Path) -> None:
    """Write the planned runs and their states to sweep.json in the sweep's folder. report.py reads this file.

    The runs' output folders are written as paths relative to the sweep's folder.
    """
    planned = [
        {
            "line": run.argv,
            "folder": os.path.relpath(run.folder, folder),
            "facts": run.known,
            "state": run.state,
            "error": run.error,
            "job": number,
        }
        for number, job in enumerate(jobs)
        for run in job
    ]
    write_json({"runs": planned}, folder / "sweep.json")
