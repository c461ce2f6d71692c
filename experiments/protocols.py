"""The papers' protocols as data: which runs, in which folders, testing whose prompts, on which classes.

Words in braces are filled in by experiments/run.py: {outputs} is OUTPUT, the rest are the command line's.
"""

from dataclasses import dataclass

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
IN_FOLDERS = {
    "shots": "DATASET.NUM_SHOTS",
    "nctx": "TRAINER.COOP.N_CTX",
    "csc": "TRAINER.COOP.CSC",
    "ctp": "TRAINER.COOP.CLASS_TOKEN_POSITION",
}
