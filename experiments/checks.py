"""Checks a run's names, its paths and the trained prompts that it tests, before the run starts.

`execute.py` calls the functions of this module. `check_names` and `check_paths` don't import torch, so that wrong names
and paths are reported without a delay. `check_trained` needs the run's config. The trainer makes all other checks.
"""

import os
from pathlib import Path
from typing import cast

from yacs.config import CfgNode

from dassl.config import check_setting, differences, pairs
from dassl.engine.run_folder import CONFIG, RESULT
from dassl.utils.errors import InputError
from dassl.utils.outlines import read_class
from dassl.utils.plugins import read_function
from datasets._missing import Layout, missing_data
from experiments.arguments import Run
from experiments.classes import DATASETS, TRAINERS
from experiments.config import check_trainer, config_of, known_text, known_value, settings_of
from experiments.finished import output_folder


def check_names(run: Run) -> None:
    """Raise InputError if a name or a config value is wrong, or if a file is missing. Doesn't import torch.

    The keys of trainers and of plugins are checked later, when the config is built.
    """
    for key, value in [*pairs(run.overrides), *run.flags.items(), ("SEED", run.seed), ("OUTPUT_DIR", run.output_dir)]:
        check_setting(key, value)
    check_trainer(run)
    settings_of(config_of(run))
    if run.extend_cfg:
        read_function(run.extend_cfg, "extend_cfg")
    dataset = known_text(run, "DATASET.NAME")
    if dataset:
        DATASETS.find(dataset)


def check_paths(run: Run) -> None:
    """Raise InputError if the data, the weights or the prompts to test are missing. Doesn't import torch.

    Call this only for a run without a result, because a finished run doesn't need these files any more.
    """
    dataset = known_text(run, "DATASET.NAME")
    if dataset:
        _check_data(run, dataset)
    _check_resume(run)
    for key in ("DATASET.PATH", "MODEL.BACKBONE.PATH"):
        path = known_text(run, key)
        absolute = os.path.abspath(os.path.expanduser(path))
        if path and not os.path.exists(absolute):
            raise InputError(f"{key} is {absolute}, which doesn't exist")
    _check_output(run, known_text(run, "DATASET.PATH"))
    for name, *more in cast(list[list[str]], known_value(run, "DATASET.TASKS")):
        path = "".join(more[1:])
        if path and not os.path.exists(os.path.expanduser(path)):
            raise InputError(f"the path of the task {name} in DATASET.TASKS is {path}, which doesn't exist")
        _check_output(run, path)
    _check_model_dir(run)


def _check_data(run: Run, dataset: str) -> None:
    """Raise InputError if the data set's folder below DATASET.ROOT lacks files.

    Only plain subclasses of `FewShotDataset` with literal attributes are checked here. Any other class checks its files
    itself, when the data set is built.
    """
    outline = read_class(DATASETS.folder, DATASETS.registry, dataset, Layout._fields)
    if outline is None or not outline.is_plain("FewShotDataset", ("locate", "check_present")):
        return
    if known_value(run, "DATASET.PATH"):
        return
    root = os.path.abspath(os.path.expanduser(known_text(run, "DATASET.ROOT")))
    folder = os.path.join(root, Layout.of(outline.cls).dataset_dir)
    error = missing_data(outline.cls, root, folder)
    if error:
        raise error
    _check_output(run, folder)


def _check_output(run: Run, data: str) -> None:
    """Raise InputError if the output folder is inside the folder `data`, whose subfolders are classes."""
    folder, output = Path(os.path.expanduser(data)).resolve(), output_folder(run).resolve()
    if data and folder.is_dir() and output.is_relative_to(folder):
        raise InputError(
            f"the output folder {output} is inside the data folder {folder}, so it would become a class. "
            "Choose another --output-dir"
        )


def _check_resume(run: Run) -> None:
    """Raise InputError if RESUME names a folder without a checkpoint."""
    resumed = known_text(run, "RESUME")
    folder = Path(resumed)
    if not resumed or folder.resolve() == output_folder(run).resolve() or any(folder.glob("*/model.pth.tar-*")):
        return
    reason = "has no checkpoint" if folder.is_dir() else "doesn't exist"
    raise InputError(f"nothing to resume: {folder} (--resume) {reason}")


def _check_model_dir(run: Run) -> None:
    """Raise InputError if the run tests prompts and the folder of the prompts doesn't exist.

    If the trainer's attribute `checkpoints` is empty, the trainer learns nothing and loads nothing, so no folder is
    needed. If a third-party trainer lacks this attribute, the folder is needed.
    """
    folder = known_text(run, "TEST.MODEL_DIR")
    if not folder or not known_value(run, "TEST.EVAL_ONLY") or Path(folder).is_dir():
        return
    if run.protocol:
        raise InputError(
            f"nothing to test: {folder} doesn't exist. Train with the same options, or correct --model-dir"
        )
    names = list(getattr(TRAINERS.find(run.trainer), "checkpoints", [""]))
    if names:
        raise InputError(f"can't load prompts: {Path(folder) / names[0]} doesn't exist (--model-dir is {folder})")


def check_trained(cfg: CfgNode) -> None:
    """Raise InputError if the prompts to test are missing, unfinished, or trained with another config."""
    if not cfg.TEST.MODEL_DIR:
        return
    folder = Path(cfg.TEST.MODEL_DIR)
    if not folder.is_dir():
        raise InputError(
            f"nothing to test: {folder} doesn't exist. Train with the same options, or correct --model-dir"
        )
    config = folder / CONFIG
    if not config.is_file():
        return  # there is no config to compare, for example because the prompts were downloaded
    done = (folder / RESULT).is_file() or any(folder.glob(f"*/model.pth.tar-{cfg.OPTIM.MAX_EPOCH}"))
    if not done:
        raise InputError(f"the training in {folder} isn't finished. Repeat its command to resume it, then test")
    differing = differences(cfg, config, ["MODEL", "OPTIM", "TRAINER"])
    if cfg.DATASET.SUBSAMPLE_CLASSES == "new":  # training and test must use the same data set, shots and seed
        differing += [
            key
            for key in differences(cfg, config, ["DATASET", "SEED"])
            if not key.startswith("DATASET.SUBSAMPLE_CLASSES")
        ]
    if differing:
        raise InputError(f"{folder} was trained with another config. These keys differ: {', '.join(differing)}")
