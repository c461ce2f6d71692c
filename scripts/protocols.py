"""The papers' protocols: for DATASET, SEED and further words, which config, which folder, which checkpoint.

    python scripts/protocols.py PROTOCOL TRAINER DATASET SEED [flags and KEY VALUE pairs for train.py]

The bash scripts beside this file call it so. Folder and default config follow the effective trainer, config and shots,
so that another --trainer never meets this one's results. Folders are those of the original scripts.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train

_BASE2NEW = "{dataset}/shots_{shots}/{trainer}/{config}/seed{seed}"
_CROSS = "{trainer}/{config}_{shots}shots"


@dataclass(frozen=True)
class Protocol:
    """A run of train.py: where its output goes, whose prompts it tests (none: it trains), on which classes."""

    output: str
    tests: str = ""
    classes: str = "all"
    cross_dataset: bool = False  # the trainer's config for training on ImageNet


#: name -> runs, one after another. {weights} is the third word where a protocol has it.
PROTOCOLS = {
    "base2new_train": [Protocol(f"output/base2new/train_base/{_BASE2NEW}", classes="base")],
    "base2new_test": [
        Protocol(f"output/base2new/test_new/{_BASE2NEW}", f"output/base2new/train_base/{_BASE2NEW}", "new")
    ],
    "xd_train": [Protocol("output/{dataset}/" + _CROSS + "/seed{seed}", cross_dataset=True)],
    "xd_test": [
        Protocol(
            "output/evaluation/" + _CROSS + "/{dataset}/seed{seed}",
            "output/imagenet/" + _CROSS + "/seed{seed}",
            cross_dataset=True,
        )
    ],
    "reproduce": [
        Protocol(f"output/base2new/test_base/{_BASE2NEW}", "{weights}/base/seed{seed}", "base"),
        Protocol(f"output/base2new/test_new/{_BASE2NEW}", "{weights}/base/seed{seed}", "new"),
    ],
    "reproduce_xd": [
        Protocol("output/evaluation/" + _CROSS + "/{dataset}/seed{seed}", "{weights}/seed{seed}", cross_dataset=True)
    ],
}


def arguments(protocol: Protocol, trainer: str, dataset: str, seed: str, weights: str, words: list[str]) -> list[str]:
    """The words for train.py: the protocol's, then the user's, which win."""
    from dassl.engine import get_trainer
    from dassl.utils import load_plugins

    load_plugins("trainers")
    defaults = ["--trainer", trainer, "--seed", seed, "--dataset-config-file"]
    defaults.append(str(train.ROOT / "configs" / "datasets" / f"{dataset}.yaml"))
    args = train.parse_arguments([*defaults, "DATASET.NUM_SHOTS", "16", *words])
    options = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    kind = get_trainer(args.trainer)
    config_file = args.config_file or train.default_config_file(kind, protocol.cross_dataset)
    facts = {
        "dataset": Path(options.get("DATASET.PATH") or args.dataset_config_file).stem,
        "trainer": args.trainer,
        "config": Path(config_file).stem or "default",
        "shots": options["DATASET.NUM_SHOTS"],
        "seed": args.seed,
        "weights": weights,
    }
    result = [*defaults, "--config-file", config_file, "--output-dir", protocol.output.format(**facts)]
    if protocol.tests:
        result.append("--eval-only")
        if getattr(kind, "checkpoints", True):  # nothing to load for a trainer that learns nothing
            result += ["--model-dir", protocol.tests.format(**facts)]
    return [*result, "DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", protocol.classes, *words]


def check_trained(cfg: Any) -> None:
    """Raise InputError where the prompts to test are not there, or were trained with another config."""
    from dassl.config import differences
    from dassl.utils import InputError

    if not cfg.TEST.MODEL_DIR:
        return
    folder = Path(cfg.TEST.MODEL_DIR)
    if not folder.is_dir():
        raise InputError(f"nothing to test: no {folder}. Train first, with the same words")
    config = folder / "config.yaml"
    differing = differences(cfg, config, nodes=("MODEL", "OPTIM", "TRAINER")) if config.is_file() else []
    if differing:
        raise InputError(f"{folder} was trained with another config: {', '.join(differing)}")


def main(argv: list[str]) -> int:
    """Exit code of the first run that fails, else 0."""
    name, trainer, *rest = argv
    needed = ["DATASET", "SEED", *(["WEIGHTS_FOLDER"] if "reproduce" in name else [])]
    if len(rest) < len(needed):
        print(f"usage: {name}.sh {' '.join(needed)} [flags and KEY VALUE pairs for train.py]", file=sys.stderr)
        return 2
    dataset, seed, *weights = rest[: len(needed)]
    words = rest[len(needed) :]

    def job() -> None:
        for protocol in PROTOCOLS[name]:
            args = train.parse_arguments(arguments(protocol, trainer, dataset, seed, "".join(weights), words))
            cfg = train.build_config(args)
            check_trained(cfg)
            train.run(cfg, args.no_train)

    return train.guarded(job, "--debug" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
