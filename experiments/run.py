"""The papers' protocols: for DATASET, SEED and the like, which config, which folder, which checkpoint.

    python experiments/run.py PROTOCOL TRAINER[:CONFIG] DATASET SEED [--variant NAME] [words for train.py]
                                [--then PROTOCOL TRAINER[:CONFIG] ...]

The bash scripts in the folders beside this file call it so. Folder and default config follow the effective trainer,
config and shots, so that another --trainer never meets this one's results. Folders are those of the original scripts,
below OUTPUT (output); --variant NAME adds a name to the config's, for runs whose words make them another method.
"""

import argparse
import itertools
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import train
from experiments.protocols import IN_FOLDERS, PROTOCOLS, Run


def dataset_file(name: str) -> str:
    """A data set's config file, by the name that the scripts take."""
    return str(train.ROOT / "configs" / "datasets" / f"{name}.yaml")


def dataset_config(file: str) -> Any:
    """The defaults, with what a data set's file says of DATASET."""
    from dassl.config import get_cfg_default, merge_file
    from dassl.utils import load_plugins

    load_plugins("datasets")
    cfg = get_cfg_default()
    merge_file(cfg, file, only=("DATASET",))
    return cfg


def source_of(file: str) -> str:
    """The data set, by its config file's name, whose prompts the cross-dataset protocol tests on that of `file`."""
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.utils import find

    kind = find(DATASET_REGISTRY, "data set", dataset_config(file).DATASET.NAME)
    return getattr(kind, "xd_source", "imagenet")


@dataclass(frozen=True)
class Command:
    """A run's words for train.py, and what its folder's name is made of: dataset, trainer, config, shots, seed ..."""

    words: list[str]
    facts: dict[str, str]


def command(
    run: Run,
    trainer: str,
    config: str,
    given: dict[str, str],
    words: list[str],
    variant: str = "",
    several: bool = False,
) -> Command:
    """The words for train.py: the protocol's, then the user's, which win.

    Args:
        trainer, config: what the script is for; of a --trainer among `words` the own default config is taken.
        given: the protocol's words by name: dataset, seed ...
        variant: added to the config's name.
        several: whether the protocol has more runs than this one.
    """
    from dassl.engine import get_trainer
    from dassl.engine.run_folder import own_name
    from dassl.utils import InputError, load_plugins
    from trainers.common.options import default_config_file

    load_plugins("trainers")
    defaults = ["--trainer", trainer, "--seed", given["seed"], "--dataset-config-file"]
    defaults.append(dataset_file(given["dataset"]))
    kind = get_trainer(train.parse_arguments([*defaults, *words]).trainer)
    given = given | {"node": getattr(kind, "node", "") or kind.__name__.upper()}
    options = run.options.format(**given).split()
    args = train.parse_arguments([*defaults, *options, *words])
    asked = config if args.trainer == trainer else ""
    if args.trainer == trainer and "cfg" in given:  # as the user said
        asked = str(train.ROOT / "configs" / "trainers" / trainer / f"{given['cfg']}.yaml")
    file = args.config_file or asked
    if not file.endswith(".yaml") and not args.config_file:
        file = default_config_file(kind, run.cross_dataset, args.dataset_config_file, asked)
    effective = options_of(args)
    path = effective.get("DATASET.PATH")
    facts = given | {name: effective[key] for name, key in IN_FOLDERS.items() if key in effective}
    facts |= {
        "outputs": os.environ.get("OUTPUT", "output"),
        "dataset": own_name(path) if path else Path(args.dataset_config_file).stem,
        "source": source_of(args.dataset_config_file) if "{source}" in run.tests else "",
        "trainer": args.trainer,
        "config": "_".join(part for part in (Path(file).stem or "default", variant) if part),
        "seed": effective.get("SEED", str(args.seed)),
    }
    output = run.output.format(**facts)
    result = [*defaults, "--config-file", file, "--output-dir", output]
    if run.tests:
        learns = getattr(kind, "checkpoints", True)  # else there is nothing to load
        result += ["--eval-only", *(prompts_to_test(run.tests.format(**facts), effective) if learns else [])]
    if run.classes != "all" and "DATASET.SUBSAMPLE_CLASSES" in args.opts[::2]:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {run.classes} in this protocol: leave it out")
    if args.output_dir and several:  # of a protocol with several runs each has a folder of its own
        part = Path(output).relative_to(facts["outputs"]).parts[1]
        words = [*words, "--output-dir", str(Path(args.output_dir) / part)]
    if variant:
        options += ["TRAINER.CONFIG", facts["config"]]
    return Command([*result, *options, "DATASET.SUBSAMPLE_CLASSES", run.classes, *words], facts)


def prompts_to_test(model_dir: str, options: dict[str, str]) -> list[str]:
    """Words that say which prompts are tested: those of a run's folder, the last saved or the best."""
    best = options.get("TEST.FINAL_MODEL") == "best_val"
    return ["--model-dir", model_dir, *([] if best else last_epoch(model_dir))]


def last_epoch(model_dir: str) -> list[str]:
    """Words that say which epoch was saved last in a run's folder; none where nothing was."""
    saved = (path.name.rpartition("-")[2] for path in Path(model_dir).glob("*/model.pth.tar-*"))
    epochs = [int(epoch) for epoch in saved if epoch.isdigit()]
    return ["--load-epoch", str(max(epochs))] if epochs else []


def check_trained(cfg: Any) -> None:
    """Raise InputError where the prompts to test are not there, or were trained with another config."""
    from dassl.config import differences
    from dassl.utils import InputError

    if not cfg.TEST.MODEL_DIR:
        return
    folder = Path(cfg.TEST.MODEL_DIR)
    if not folder.is_dir():
        raise InputError(f"nothing to test: no {folder}. Train first, with the same words, or name another folder")
    config = folder / "config.yaml"
    done = (folder / "result.json").is_file() or any(folder.glob(f"*/model.pth.tar-{cfg.OPTIM.MAX_EPOCH}"))
    if config.is_file() and not done:
        raise InputError(f"the training in {folder} is not finished: start it again, with the same words")
    nodes = ["MODEL", "OPTIM", "TRAINER"]
    differing = differences(cfg, config, nodes) if config.is_file() else []
    if config.is_file() and cfg.DATASET.SUBSAMPLE_CLASSES == "new":  # the same data, the same shots
        theirs = differences(cfg, config, ["DATASET", "SEED"])
        differing += [key for key in theirs if not key.startswith("DATASET.SUBSAMPLE_CLASSES")]
    if differing:
        raise InputError(f"{folder} was trained with another config: {', '.join(differing)}")


def split_variant(words: Sequence[str]) -> tuple[str, list[str]]:
    """What --variant says (empty where it isn't there), and the other words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--variant", default="")
    flags, others = parser.parse_known_args(words)
    return flags.variant, others


def options_of(args: argparse.Namespace) -> dict[str, str]:
    """The KEY VALUE pairs of a command line; of what is said twice the last wins."""
    return dict(zip(args.opts[::2], args.opts[1::2], strict=False))


def commands(argv: Sequence[str]) -> Iterator[Command]:
    """The runs that a command line asks for, each made when the one before it is done: tests look for checkpoints."""
    name, spec, *rest = argv
    protocol, (trainer, _, config) = PROTOCOLS[name], spec.partition(":")
    needed = protocol.words.split()
    given = {word.lower(): value for word, value in zip(needed, rest, strict=False)}
    variant, words = split_variant(rest[len(needed) :])
    seeds = (given["seed"],) if "seed" in given else protocol.seeds
    if len(seeds) > 1 and {"--seed", "SEED"} & set(words):
        asked = train.parse_arguments(words)
        seeds = (options_of(asked).get("SEED", str(asked.seed)),)
    for seed, run in itertools.product(seeds, protocol.runs):
        yield command(run, trainer, config, given | {"seed": seed}, words, variant, len(protocol.runs) > 1)


def main(argv: list[str]) -> int:
    """Do one command line after another (--then parts them), whatever becomes of the ones before; of the exit codes
    the first that is not 0."""
    lines = [list(line) for is_then, line in itertools.groupby(argv, "--then".__eq__) if not is_then]
    for name, _, *rest in lines:
        words = PROTOCOLS[name].words
        if len(rest) < len(words.split()):
            usage = f"usage: {name}.sh {words} [--variant NAME] [flags and KEY VALUE pairs for train.py]"
            print(usage, file=sys.stderr)
            return 2

    def job(line: list[str]) -> None:
        for command in commands(line):
            args = train.parse_arguments(command.words)
            cfg = train.build_config(args)
            check_trained(cfg)
            train.run(cfg, args.no_train)

    codes = []
    for line in lines:
        try:
            codes.append(train.report_errors(lambda line=line: job(line), "--debug" in line))
        except Exception as error:  # out of memory, say: the other lines may fare better
            traceback.print_exc()
            print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
            codes.append(1)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
