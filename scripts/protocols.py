"""The papers' protocols: for DATASET, SEED and the like, which config, which folder, which checkpoint.

    python scripts/protocols.py PROTOCOL TRAINER[:CONFIG] DATASET SEED [--variant NAME] [words for train.py]
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train

_BASE2NEW = "{dataset}/shots_{shots}/{trainer}/{config}/seed{seed}"
_CROSS = "{trainer}/{config}_{shots}shots"
_COOP = "{trainer}/{config}_{shots}shots/nctx{nctx}_csc{csc}_ctp{ctp}"


@dataclass(frozen=True)
class Run:
    """A run of train.py: where its output goes, whose prompts it tests (none: it trains), on which classes."""

    output: str
    tests: str = ""
    classes: str = "all"
    cross_dataset: bool = False  # the trainer's config for training on ImageNet
    options: str = "DATASET.NUM_SHOTS 16"  # config options, with the protocol's words in braces


@dataclass(frozen=True)
class Protocol:
    """Runs, one after another, by words of the command line. Where SEED is none of them, for every seed of `seeds`."""

    words: str
    runs: tuple[Run, ...]
    seeds: tuple[str, ...] = ("1", "2", "3")


_COOP_OPTIONS = (
    "DATASET.NUM_SHOTS {shots} TRAINER.COOP.N_CTX {nctx} TRAINER.COOP.CSC {csc} TRAINER.COOP.CLASS_TOKEN_POSITION {ctp}"
)
_MTCOOP_WORDS = "DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO"
_MTCOOP = (
    "{trainer}/{config}_{shots}shots/cnctx{class_n_ctx}_ccsc{class_csc}_tnctx{task_n_ctx}_tcsc{task_csc}"
    "_nctx{n_ctx}_csc{csc}_type{pg_type}_ratio{pg_ratio}"
)
_MTCOOP_OPTIONS = "DATASET.NUM_SHOTS {shots} " + " ".join(
    f"TRAINER.{{node}}.{word} {{{word.lower()}}}" for word in _MTCOOP_WORDS.split()[3:]
)
PROTOCOLS = {
    "base2new_train": Protocol("DATASET SEED", (Run("{outputs}/base2new/train_base/" + _BASE2NEW, classes="base"),)),
    "base2new_test": Protocol(
        "DATASET SEED",
        (Run("{outputs}/base2new/test_new/" + _BASE2NEW, "{outputs}/base2new/train_base/" + _BASE2NEW, "new"),),
    ),
    "xd_train": Protocol("DATASET SEED", (Run("{outputs}/{dataset}/" + _CROSS + "/seed{seed}", cross_dataset=True),)),
    "xd_test": Protocol(
        "DATASET SEED",
        (
            Run(
                "{outputs}/evaluation/" + _CROSS + "/{dataset}/seed{seed}",
                "{outputs}/{source}/" + _CROSS + "/seed{seed}",
                cross_dataset=True,
            ),
        ),
    ),
    "reproduce": Protocol(
        "DATASET SEED WEIGHTS_FOLDER",
        (
            Run("{outputs}/base2new/test_base/" + _BASE2NEW, "{weights_folder}/base/seed{seed}", "base"),
            Run("{outputs}/base2new/test_new/" + _BASE2NEW, "{weights_folder}/base/seed{seed}", "new"),
        ),
    ),
    "reproduce_xd": Protocol(
        "DATASET SEED WEIGHTS_FOLDER",
        (
            Run(
                "{outputs}/evaluation/" + _CROSS + "/{dataset}/seed{seed}",
                "{weights_folder}/seed{seed}",
                cross_dataset=True,
            ),
        ),
    ),
    "few_shot": Protocol("DATASET SEED", (Run("{outputs}/{dataset}/{trainer}/{config}_{shots}shots/seed{seed}"),)),
    "coop_main": Protocol(
        "DATASET CFG CTP NCTX SHOTS CSC",
        (Run("{outputs}/{dataset}/" + _COOP + "/seed{seed}", options=_COOP_OPTIONS),),
    ),
    "coop_eval": Protocol(
        "DATASET CFG",
        (
            Run(
                "{outputs}/evaluation/" + _COOP + "/{dataset}/seed{seed}",
                "{outputs}/{source}/" + _COOP + "/seed{seed}",
                options=_COOP_OPTIONS.format(shots="16", nctx="16", csc="False", ctp="end"),
            ),
        ),
    ),
    "mtcoop": Protocol(
        _MTCOOP_WORDS, (Run("{outputs}/{dataset}/" + _MTCOOP + "/seed{seed}", options=_MTCOOP_OPTIONS),)
    ),
    "mtcoop_cls_sample": Protocol(
        _MTCOOP_WORDS + " CLS_SAMPLE_RATE",
        (
            Run(
                "{outputs}/{dataset}/" + _MTCOOP + "_rate{cls_sample_rate}/seed{seed}",
                options=_MTCOOP_OPTIONS + " TRAINER.{node}.CLS_SAMPLE_RATE {cls_sample_rate}",
            ),
        ),
    ),
    "mtcoop_hard": Protocol(
        "DATASET CFG SHOTS N_CTX CSC TSC",
        (
            Run(
                "{outputs}/{dataset}/{trainer}/{config}_{shots}shots/nctx{n_ctx}_csc{csc}_tsc{tsc}/seed{seed}",
                options="DATASET.NUM_SHOTS {shots} TRAINER.{node}.N_CTX {n_ctx} TRAINER.{node}.CSC {csc} "
                "TRAINER.{node}.TSC {tsc}",
            ),
        ),
    ),
    "mtcoop_base2new_train": Protocol(
        _MTCOOP_WORDS,
        (
            Run(
                "{outputs}/base2new/train_base/{dataset}/" + _MTCOOP + "/seed{seed}",
                classes="base",
                options=_MTCOOP_OPTIONS,
            ),
        ),
    ),
    "mtcoop_base2new_test": Protocol(
        _MTCOOP_WORDS,
        (
            Run(
                "{outputs}/base2new/test_new/{dataset}/" + _MTCOOP + "/seed{seed}",
                "{outputs}/base2new/train_base/{dataset}/" + _MTCOOP + "/seed{seed}",
                "new",
                options=_MTCOOP_OPTIONS,
            ),
        ),
    ),
    "zeroshot": Protocol(
        "DATASET CFG", (Run("{outputs}/{trainer}/{config}/{dataset}", "-", options=""),), seeds=("-1",)
    ),
}
#: Names in folders that stand for config options.
_IN_FOLDERS = {
    "shots": "DATASET.NUM_SHOTS",
    "nctx": "TRAINER.COOP.N_CTX",
    "csc": "TRAINER.COOP.CSC",
    "ctp": "TRAINER.COOP.CLASS_TOKEN_POSITION",
}


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
    from dassl.engine.record import own_name
    from dassl.utils import InputError, load_plugins
    from trainers.nodes import default_config_file

    load_plugins("trainers")
    defaults = ["--trainer", trainer, "--seed", given["seed"], "--dataset-config-file"]
    defaults.append(dataset_file(given["dataset"]))
    kind = get_trainer(train.parse_arguments([*defaults, *words]).trainer)
    given = given | {"node": getattr(kind, "node", "") or kind.__name__.upper()}
    options = run.options.format(**given).split()
    args = train.parse_arguments([*defaults, *options, *words])
    if args.trainer != trainer:
        config = ""
    elif "cfg" in given:  # as the user said
        config = str(train.ROOT / "configs" / "trainers" / trainer / f"{given['cfg']}.yaml")
    file = args.config_file or (
        config
        if config.endswith(".yaml")
        else default_config_file(kind, run.cross_dataset, args.dataset_config_file, config)
    )
    effective = options_of(args)
    facts = given | {name: effective[key] for name, key in _IN_FOLDERS.items() if key in effective}
    facts |= {
        "outputs": os.environ.get("OUTPUT", "output"),
        "dataset": own_name(effective["DATASET.PATH"])
        if effective.get("DATASET.PATH")
        else Path(args.dataset_config_file).stem,
        "source": source_of(args.dataset_config_file) if "{source}" in run.tests else "",
        "trainer": args.trainer,
        "config": "_".join(part for part in (Path(file).stem or "default", variant) if part),
        "seed": effective.get("SEED", str(args.seed)),
    }
    output = run.output.format(**facts)
    result = [*defaults, "--config-file", file, "--output-dir", output]
    if run.tests:
        result.append("--eval-only")
        if getattr(kind, "checkpoints", True):  # nothing to load for a trainer that learns nothing
            model_dir = run.tests.format(**facts)
            result += ["--model-dir", model_dir]
            if effective.get("TEST.FINAL_MODEL") != "best_val":
                result += last_epoch(model_dir)
    if run.classes != "all" and "DATASET.SUBSAMPLE_CLASSES" in args.opts[::2]:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {run.classes} in this protocol: leave it out")
    if args.output_dir and several:  # of a protocol with several runs each has a folder of its own
        words = [
            *words,
            "--output-dir",
            str(Path(args.output_dir) / Path(output).relative_to(facts["outputs"]).parts[1]),
        ]
    if variant:
        options += ["TRAINER.CONFIG", facts["config"]]
    return Command([*result, *options, "DATASET.SUBSAMPLE_CLASSES", run.classes, *words], facts)


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
            codes.append(train.guarded(lambda line=line: job(line), "--debug" in line))
        except Exception as error:  # out of memory, say: the other lines may fare better
            traceback.print_exc()
            print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
            codes.append(1)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
