"""Runs of the papers' protocols: PROTOCOL TRAINER[:CONFIG] DATASET SEED ... -> runs -> training and testing.

    python -m experiments.run PROTOCOL TRAINER[:CONFIG] DATASET SEED [--variant NAME] [flags and KEY VALUE pairs]
                              [--then PROTOCOL TRAINER[:CONFIG] ...]

The scripts below `scripts/` call this module. Output folders are the original scripts', below OUTPUT ("output").
Folder and default config follow the trainer, config and shots that are really used: if a user swaps the trainer by
--trainer, the run never gets into the other trainer's folder. `--variant NAME` extends the config's name.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from dassl.utils.command_line import one_line, report_errors
from dassl.utils.errors import InputError
from experiments.arguments import Run, flags_of, parser, stem
from experiments.protocols import IN_FOLDERS, PROTOCOLS, Protocol, Step


@dataclasses.dataclass(frozen=True)
class Request:
    """One parsed command line of a protocol, which may ask for several runs."""

    name: str  # of the protocol
    trainer: str  # that the script is for
    config: str  # that the script asks for: a name or a file; empty: the trainer's default
    arguments: dict[str, str]  # the protocol's arguments in lower case: dataset, seed, shots ...
    args: argparse.Namespace  # the user's flags and KEY VALUE pairs

    @property
    def protocol(self) -> Protocol:
        """The protocol's steps."""
        return PROTOCOLS[self.name]


def parse(argv: Sequence[str]) -> Request:
    """Parse PROTOCOL TRAINER[:CONFIG] DATASET SEED ... and the flags and KEY VALUE pairs that follow."""
    from experiments.config import dataset_file

    name, spec, *rest = argv
    trainer, _, config = spec.partition(":")
    needed = PROTOCOLS[name].arguments.split()
    arguments = {argument.lower(): value for argument, value in zip(needed, rest, strict=False)}
    made = protocol_parser(name)
    made.set_defaults(
        trainer=trainer, dataset_config_file=dataset_file(arguments["dataset"]), seed=arguments.get("seed")
    )
    return Request(name, trainer, config, arguments, made.parse_intermixed_args(rest[len(needed) :]))


def protocol_parser(name: str) -> argparse.ArgumentParser:
    """The parser of what follows a protocol's arguments: --variant, and everything that train.py takes."""
    made = parser()
    made.prog = f"{name}.sh"
    made.usage = usage(name)
    made.add_argument("--variant", default="", help="suffix of the config's name in folders and results")
    return made


def usage(name: str) -> str:
    """How a protocol's script is called."""
    return f"{name}.sh {PROTOCOLS[name].arguments} [--variant NAME] [flags and KEY VALUE pairs for train.py]"


def runs(argv: Sequence[str]) -> Iterator[Run]:
    """The runs that a command line asks for: every step of the protocol, for every seed. Parses the line once.

    Raises:
        InputError: unknown trainer or data set, or a KEY VALUE pair that contradicts the protocol.
    """
    request = parse(argv)
    options = _pairs(request.args.opts)
    seeds = request.protocol.seeds if request.args.seed is None else (request.args.seed,)
    if "SEED" in options:
        seeds = seeds[:1]  # the pair sets the seed of every run: make one
    for seed, step in itertools.product(seeds, request.protocol.steps):
        yield make_run(request, step, seed, options)


def make_run(request: Request, step: Step, seed: int, options: dict[str, str]) -> Run:
    """The run of one step. The user's `options` override the protocol's, as the user's flags override the script's."""
    from experiments.classes import TRAINERS
    from trainers.common.options import node_of

    args = request.args
    cls = TRAINERS.find(args.trainer)
    placeholders = request.arguments | {"node": node_of(cls), "seed": str(seed)}
    protocol_options = step.options.format(**placeholders).split()
    effective = _pairs(protocol_options) | options
    if step.classes != "all" and "DATASET.SUBSAMPLE_CLASSES" in options:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {step.classes} in this protocol: leave it out")
    file = config_file(request, step, cls)
    placeholders |= {name: effective[key] for name, key in IN_FOLDERS.items() if key in effective}
    placeholders |= names_in_folders(request, step, file, effective, seed)
    output = step.output.format(**placeholders)
    if args.output_dir:
        output = args.output_dir
        if len(request.protocol.steps) > 1:  # the steps must not share a folder
            below = Path(step.output.format(**placeholders)).relative_to(placeholders["outputs"])
            output = str(Path(output) / below.parts[1])
    flags = flags_of(args)
    learns = getattr(cls, "checkpoints", True)  # a trainer that learns nothing has no prompts to load
    tested = step.tests.format(**placeholders) if learns else ""
    if step.tests:
        flags["TEST.EVAL_ONLY"] = True
        if tested:
            flags.setdefault("TEST.MODEL_DIR", tested)
    return Run(
        trainer=args.trainer,
        dataset=args.dataset_config_file,
        config=file,
        seed=seed,
        protocol=request.name,
        variant=args.variant,
        output_dir=output,
        trained_in="" if effective.get("TEST.FINAL_MODEL") == "best_val" else tested,
        flags=flags,
        overrides=(*protocol_options, "DATASET.SUBSAMPLE_CLASSES", step.classes, *args.opts),
        no_train=args.no_train,
    )


def config_file(request: Request, step: Step, cls: type) -> str:
    """Path of the trainer's config: the user's, the script's if the trainer isn't swapped, or the trainer's default."""
    from experiments.config import ROOT, default_config_file

    args = request.args
    if args.config_file:
        return args.config_file
    asked = request.config if args.trainer == request.trainer else ""
    if args.trainer == request.trainer and "cfg" in request.arguments:
        asked = str(ROOT / "configs" / "trainers" / args.trainer / f"{request.arguments['cfg']}.yaml")
    return (
        asked
        if asked.endswith(".yaml")
        else default_config_file(cls, step.cross_dataset, args.dataset_config_file, asked)
    )


def names_in_folders(request: Request, step: Step, file: str, effective: dict[str, str], seed: int) -> dict[str, str]:
    """Placeholders of folder names that follow from flags and files."""
    from dassl.engine.run_folder import own_data_name

    path, args = effective.get("DATASET.PATH"), request.args
    return {
        "outputs": os.environ.get("OUTPUT", "output"),
        "dataset": own_data_name(path) if path else stem(args.dataset_config_file),
        "source": source_of(args.dataset_config_file) if "{source}" in step.tests else "",
        "trainer": args.trainer,
        "config": "_".join(part for part in (stem(file) or "default", args.variant) if part),
        "seed": effective.get("SEED", str(seed)),
    }


def source_of(file: str) -> str:
    """The data set whose prompts the cross-dataset protocol tests on that of `file`, by its config file's name."""
    from experiments.classes import DATASETS
    from experiments.config import settings_of

    setting = settings_of(file).get("DATASET.NAME")
    cls = DATASETS.find(str(setting.value) if setting else "")
    return getattr(cls, "xd_source", "imagenet")  # a third party's data set lacks the attribute


def _pairs(options: Sequence[str]) -> dict[str, str]:
    """KEY VALUE pairs by key. Of repeated keys the last value counts."""
    return dict(zip(options[::2], options[1::2], strict=False))


def main(argv: list[str]) -> int:
    """Execute one command line after another, separated by --then, even if one fails. Returns the first non-zero exit
    code."""
    lines = [list(line) for is_then, line in itertools.groupby(argv, "--then".__eq__) if not is_then]
    for name, _, *rest in lines:
        if {"-h", "--help"} & set(rest):
            protocol_parser(name).print_help()
            return 0
        if len(rest) < len(PROTOCOLS[name].arguments.split()):
            print(f"usage: {usage(name)}", file=sys.stderr)
            return 2

    def job(line: list[str]) -> None:
        from experiments.execute import execute

        for run in runs(line):
            execute(run)

    codes = []
    for line in lines:
        try:
            codes.append(report_errors(functools.partial(job, line), "--debug" in line))
        except Exception as error:  # for example, out of memory: the other lines may succeed
            traceback.print_exc()
            print(f"error: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
            codes.append(1)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
