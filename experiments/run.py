"""Executes the runs of the papers' protocols.

    python -m experiments.run PROTOCOL TRAINER[:CONFIG] DATASET SEED [--variant NAME] [flags and KEY VALUE pairs]
                              [--then PROTOCOL TRAINER[:CONFIG] ...]

The scripts in `scripts/` call this module. Each run has an output folder, which is named as in the papers' original
scripts. The environment variable OUTPUT sets the folder that holds all output folders (default: "output"). The name of
an output folder contains the trainer, the config and the number of shots that are really used. So if the user replaces
the script's trainer with --trainer, the run gets another folder and another default config. `--variant NAME` adds a
suffix to the config's name in the folder. `--then` starts the next command line.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dassl import distributed
from dassl.utils.command_line import report_errors
from dassl.utils.errors import InputError
from dassl.utils.stopping import STOPPED
from experiments.arguments import Run, absolute, flags_of, parser, stem
from experiments.protocols import IN_FOLDERS, PROTOCOLS, Protocol, Step


@dataclasses.dataclass(frozen=True)
class Request:
    """A parsed command line of a protocol. The command line may describe several runs, one for each step and seed."""

    name: str  # name of the protocol
    trainer: str  # trainer that the script names; the flag --trainer overrides this name
    config: str  # name or .yaml file of the config that the script names; "" for the trainer's default
    arguments: dict[str, str]  # {name in lower case: value} for the protocol's arguments, such as dataset and seed
    args: argparse.Namespace  # the user's flags and KEY VALUE pairs

    @property
    def protocol(self) -> Protocol:
        """The protocol that the command line names."""
        return PROTOCOLS[self.name]


def parse(argv: Sequence[str]) -> Request:
    """Parse a command line PROTOCOL TRAINER[:CONFIG] DATASET SEED ..., followed by flags and KEY VALUE pairs."""
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
    """Return the parser for what follows a protocol's own arguments, which is --variant and all flags of train.py."""
    made = parser()
    made.prog = f"{name}.sh"
    made.usage = usage(name)
    made.add_argument("--variant", default="", help="suffix of the config's name in folders and results")
    return made


def usage(name: str) -> str:
    """Return the usage line of a protocol's script."""
    return f"{name}.sh {PROTOCOLS[name].arguments} [--variant NAME] [flags and KEY VALUE pairs for train.py]"


def runs(argv: Sequence[str]) -> Iterator[Run]:
    """Yield the runs that a command line describes. There is a run for every seed and every step of the protocol.

    Raises:
        InputError: for an unknown trainer or data set, or for a KEY VALUE pair that contradicts the protocol.
    """
    request = parse(argv)
    options = _pairs(request.args.opts)
    seeds = request.protocol.seeds if request.args.seed is None else (request.args.seed,)
    if "SEED" in options:
        seeds = seeds[:1]  # SEED in the KEY VALUE pairs sets the seed of every run, so one run is enough
    for seed, step in itertools.product(seeds, request.protocol.steps):
        yield make_run(request, step, seed, options)


def make_run(request: Request, step: Step, seed: int, options: dict[str, str]) -> Run:
    """Return the run for one step of a protocol and one seed.

    The user's KEY VALUE pairs, which `options` holds as a dict, override the protocol's options. The user's flags
    override the flags of the script.
    """
    from experiments.classes import TRAINERS
    from trainers.common.options import node_of

    args = request.args
    if not re.fullmatch(r"[^/\\\x00-\x1f]*", args.variant):
        raise InputError(
            f"--variant is a part of a folder's name, so it can't contain / or \\, but got {args.variant!r}"
        )
    cls = TRAINERS.find(args.trainer)
    placeholders = request.arguments | {"node": node_of(cls), "seed": str(seed)}
    protocol_options = step.options.format(**placeholders).split()
    effective = _pairs(protocol_options) | options
    if step.classes != "all" and "DATASET.SUBSAMPLE_CLASSES" in options:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {step.classes} in this protocol, so leave this option out")
    file = config_file(request, cls)
    placeholders |= {name: effective[key] for name, key in IN_FOLDERS.items() if key in effective}
    placeholders |= names_in_folders(request, step, file, effective, seed)
    output = step.output.format(**placeholders)
    if args.output_dir:
        output = args.output_dir
        if len(request.protocol.steps) > 1:  # the steps must not share a folder, so each gets a subfolder
            below = Path(step.output.format(**placeholders)).relative_to(placeholders["outputs"])
            output = str(Path(output) / below.parts[1])
    flags = flags_of(args)
    learns = getattr(cls, "checkpoints", True)  # a zero-shot trainer has no checkpoints, so no prompts are loaded
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
        verbose=args.verbose,
        extend_cfg=absolute(args.extend_cfg),
    )


def config_file(request: Request, cls: type) -> str:
    """Return the path of the trainer's config file, which is the first available file of this list:

    1. the file that the user gives with --config-file
    2. the config that the script names, unless the user has replaced the trainer with --trainer
    3. the trainer's config for the protocol, or the trainer's default config
    """
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
        else default_config_file(cls, request.protocol.family, args.dataset_config_file, asked)
    )


def names_in_folders(request: Request, step: Step, file: str, effective: dict[str, str], seed: int) -> dict[str, str]:
    """Return {placeholder in folder names: value}, for placeholders whose values depend on flags and config files."""
    from dassl.engine.run_folder import own_data_name

    path, args = effective.get("DATASET.PATH"), request.args
    return {
        "outputs": os.environ.get("OUTPUT", "output"),
        "dataset": own_data_name(path, effective.get("DATASET.LABEL", "")) if path else stem(args.dataset_config_file),
        "source": source_of(args.dataset_config_file) if "{source}" in step.tests else "",
        "trainer": args.trainer,
        "config": "_".join(part for part in (stem(file) or "default", args.variant) if part),
        "seed": effective.get("SEED", str(seed)),
    }


def source_of(file: str) -> str:
    """Return the source data set for a cross-dataset test. The prompts are trained on the source data set.

    Args:
        file: path of the config file of the data set on which the prompts are tested.

    Returns:
        The name of the source data set's config file, for example "imagenet".
    """
    from experiments.classes import DATASETS
    from experiments.config import settings_of

    setting = settings_of(file).get("DATASET.NAME")
    cls = DATASETS.find(str(setting.value) if setting else "")
    return getattr(cls, "xd_source", "imagenet")  # third-party data sets may lack this attribute


def _pairs(options: Sequence[str]) -> dict[str, str]:
    """Return KEY VALUE pairs as a dict. If a key is repeated, the last value is used."""
    return dict(zip(options[::2], options[1::2], strict=False))


def main(argv: list[str]) -> int:
    """Execute the command lines in `argv`, which are separated by --then.

    If a command line fails, the next command lines are still executed, unless the user or the system has stopped it.
    Returns the first non-zero exit code, or 0 if all command lines succeed.
    """
    distributed.mute_others()
    lines = [list(line) for is_then, line in itertools.groupby(argv, "--then".__eq__) if not is_then]
    if any(len(line) < 2 or line[0] not in PROTOCOLS for line in lines or [[]]):
        names = ", ".join(PROTOCOLS)
        print(f"error: a command line starts with PROTOCOL TRAINER[:CONFIG]. Protocols: {names}", file=sys.stderr)
        return 2
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
        codes.append(report_errors(functools.partial(job, line), "--debug" in line))
        if codes[-1] in STOPPED or (codes[-1] and distributed.size() > 1):  # the processes can't meet again
            return codes[-1]
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
