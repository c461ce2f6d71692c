"""The papers' protocols as data. A protocol lists its runs, with their folders, classes and options.

`run.py` makes runs from the entries of `PROTOCOLS`, and replaces the placeholders, which are written in braces. The
placeholder {outputs} is the folder of all output, which the environment variable OUTPUT sets. The values of {dataset},
{seed}, {shots} and so on come from the command line and the config.
"""

from dataclasses import dataclass

_TRAIN_BASE = "{outputs}/base2new/train_base/"
_TEST_BASE = "{outputs}/base2new/test_base/"
_TEST_NEW = "{outputs}/base2new/test_new/"
_EVALUATION = "{outputs}/evaluation/"
_BASE2NEW = "{dataset}/shots_{shots}/{trainer}/{config}/seed{seed}"
_CROSS = "{trainer}/{config}_{shots}shots"
_COOP = "{trainer}/{config}_{shots}shots/nctx{nctx}_csc{csc}_ctp{ctp}"


@dataclass(frozen=True)
class Step:
    """Describes the runs of one step of a protocol. There is one run per seed. Strings may hold placeholders."""

    output: str  # the output folder of the run
    tests: str = ""  # folder of the trained prompts that the run tests; "" if the run trains
    classes: str = "all"  # DATASET.SUBSAMPLE_CLASSES: all, base or new
    options: str = "DATASET.NUM_SHOTS 16"  # KEY VALUE pairs for the run


@dataclass(frozen=True)
class Protocol:
    """Describes a protocol by its steps, which are executed one after another, and by its command-line arguments.

    If the command line has no argument SEED, the steps are executed for every seed in `seeds`.
    """

    arguments: str  # names of the positional arguments, separated by spaces
    steps: tuple[Step, ...]
    family: str  # value of the config key PROTOCOL: base2new, few_shot, cross_dataset or ""; it also selects the config
    seeds: tuple[int, ...] = (1, 2, 3)  # (-1,): each step is executed once, without a seed


_COOP_OPTIONS = (
    "DATASET.NUM_SHOTS {shots} TRAINER.COOP.N_CTX {nctx} TRAINER.COOP.CSC {csc} TRAINER.COOP.CLASS_TOKEN_POSITION {ctp}"
)
_MTCOOP_ARGUMENTS = "DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO"
_MTCOOP = (
    "{dataset}/{trainer}/{config}_{shots}shots/cnctx{class_n_ctx}_ccsc{class_csc}_tnctx{task_n_ctx}_tcsc{task_csc}"
    "_nctx{n_ctx}_csc{csc}_type{pg_type}_ratio{pg_ratio}"
)
_MTCOOP_OPTIONS = "DATASET.NUM_SHOTS {shots} " + " ".join(
    f"TRAINER.{{node}}.{argument} {{{argument.lower()}}}" for argument in _MTCOOP_ARGUMENTS.split()[3:]
)
PROTOCOLS = {
    # Protocols of MaPLe's scripts
    "base2new_train": Protocol(
        "DATASET SEED",
        (Step(_TRAIN_BASE + _BASE2NEW, classes="base"),),
        family="base2new",
    ),
    "base2new_test": Protocol(
        "DATASET SEED",
        (Step(_TEST_NEW + _BASE2NEW, tests=_TRAIN_BASE + _BASE2NEW, classes="new"),),
        family="base2new",
    ),
    "xd_train": Protocol(
        "DATASET SEED",
        (Step("{outputs}/{dataset}/" + _CROSS + "/seed{seed}"),),
        family="cross_dataset",
    ),
    "xd_test": Protocol(
        "DATASET SEED",
        (
            Step(
                _EVALUATION + _CROSS + "/{dataset}/seed{seed}",
                tests="{outputs}/{source}/" + _CROSS + "/seed{seed}",
            ),
        ),
        family="cross_dataset",
    ),
    "reproduce": Protocol(
        "DATASET SEED WEIGHTS_FOLDER",
        (
            Step(_TEST_BASE + _BASE2NEW, tests="{weights_folder}/base/seed{seed}", classes="base"),
            Step(_TEST_NEW + _BASE2NEW, tests="{weights_folder}/base/seed{seed}", classes="new"),
        ),
        family="base2new",
    ),
    "reproduce_xd": Protocol(
        "DATASET SEED WEIGHTS_FOLDER",
        (Step(_EVALUATION + _CROSS + "/{dataset}/seed{seed}", tests="{weights_folder}/seed{seed}"),),
        family="cross_dataset",
    ),
    # Protocols of PromptSRC's, ProGrad's, TaskRes's and CoPrompt's scripts
    "reproduce_few_shot": Protocol(
        "DATASET SHOTS WEIGHTS_FOLDER",
        (
            Step(
                _EVALUATION + _CROSS + "/{dataset}/seed{seed}",
                tests="{weights_folder}/{shots}shot/seed{seed}",
                options="DATASET.NUM_SHOTS {shots}",
            ),
        ),
        family="few_shot",
    ),
    "prograd": Protocol(
        "DATASET CFG CTP NCTX SHOTS CSC",
        (Step("{outputs}/{dataset}/" + _COOP + "/seed{seed}", options=_COOP_OPTIONS),),
        family="",  # not few_shot, because the user chooses the number of epochs by CFG
    ),
    "taskres": Protocol(
        "DATASET CFG ENHANCE SHOTS SCALE",
        (
            Step(
                "{outputs}/FINAL/debug/{dataset}/{config}_{shots}shots/seed{seed}",
                options="DATASET.NUM_SHOTS {shots} TRAINER.TaskRes.ENHANCED_BASE {enhance} "
                "TRAINER.TaskRes.RESIDUAL_SCALE {scale}",
            ),
        ),
        family="",  # not few_shot, because the user chooses the number of epochs by CFG
        seeds=(1,),
    ),
    "base2new_train_coprompt": Protocol(
        "DATASET SEED EXP",
        (Step("{outputs}/{exp}/train_base/" + _BASE2NEW, classes="base"),),
        family="base2new",
    ),
    "base2new_test_coprompt": Protocol(
        "DATASET SEED EXP EPOCH",
        (
            Step(
                "{outputs}/{exp}/test_new/" + _BASE2NEW,
                tests="{outputs}/{exp}/train_base/" + _BASE2NEW,
                classes="new",
                options="DATASET.NUM_SHOTS 16 TEST.LOAD_EPOCH {epoch}",
            ),
        ),
        family="base2new",
    ),
    # Protocols of CoOp's scripts
    "few_shot": Protocol(
        "DATASET SEED",
        (Step("{outputs}/{dataset}/{trainer}/{config}_{shots}shots/seed{seed}"),),
        family="few_shot",
    ),
    "coop_main": Protocol(
        "DATASET CFG CTP NCTX SHOTS CSC",
        (Step("{outputs}/{dataset}/" + _COOP + "/seed{seed}", options=_COOP_OPTIONS),),
        family="few_shot",
    ),
    "coop_eval": Protocol(
        "DATASET CFG",
        (
            Step(
                _EVALUATION + _COOP + "/{dataset}/seed{seed}",
                tests="{outputs}/{source}/" + _COOP + "/seed{seed}",
                options=_COOP_OPTIONS.format(shots="16", nctx="16", csc="False", ctp="end"),
            ),
        ),
        family="cross_dataset",
    ),
    "zeroshot": Protocol(
        "DATASET CFG",
        # "-" means that the run only tests. A zero-shot trainer loads no trained prompts, so no folder is named.
        (Step("{outputs}/{trainer}/{config}/{dataset}", tests="-", options=""),),
        family="",
        seeds=(-1,),
    ),
    # Protocols of SoftCPT's scripts
    "mtcoop": Protocol(
        _MTCOOP_ARGUMENTS,
        (Step("{outputs}/" + _MTCOOP + "/seed{seed}", options=_MTCOOP_OPTIONS),),
        family="few_shot",
    ),
    "mtcoop_cls_sample": Protocol(
        _MTCOOP_ARGUMENTS + " CLS_SAMPLE_RATE",
        (
            Step(
                "{outputs}/" + _MTCOOP + "_rate{cls_sample_rate}/seed{seed}",
                options=_MTCOOP_OPTIONS + " TRAINER.{node}.CLS_SAMPLE_RATE {cls_sample_rate}",
            ),
        ),
        family="few_shot",
    ),
    "mtcoop_hard": Protocol(
        "DATASET CFG SHOTS N_CTX CSC TSC",
        (
            Step(
                "{outputs}/{dataset}/{trainer}/{config}_{shots}shots/nctx{n_ctx}_csc{csc}_tsc{tsc}/seed{seed}",
                options="DATASET.NUM_SHOTS {shots} TRAINER.{node}.N_CTX {n_ctx} TRAINER.{node}.CSC {csc} "
                "TRAINER.{node}.TSC {tsc}",
            ),
        ),
        family="few_shot",
    ),
    "mtcoop_base2new_train": Protocol(
        _MTCOOP_ARGUMENTS,
        (Step(_TRAIN_BASE + _MTCOOP + "/seed{seed}", classes="base", options=_MTCOOP_OPTIONS),),
        family="base2new",
    ),
    "mtcoop_base2new_test": Protocol(
        _MTCOOP_ARGUMENTS,
        (
            Step(
                _TEST_NEW + _MTCOOP + "/seed{seed}",
                tests=_TRAIN_BASE + _MTCOOP + "/seed{seed}",
                classes="new",
                options=_MTCOOP_OPTIONS,
            ),
        ),
        family="base2new",
    ),
}
#: {placeholder in folder names: config key whose value replaces the placeholder}. If the user changes the value of the
#: config key with a KEY VALUE pair, the name of the folder changes too.
IN_FOLDERS = {
    "shots": "DATASET.NUM_SHOTS",
    "nctx": "TRAINER.COOP.N_CTX",
    "csc": "TRAINER.COOP.CSC",
    "ctp": "TRAINER.COOP.CLASS_TOKEN_POSITION",
}
