"""Checks of a run before it starts: names, paths, and the prompts that it tests.

`execute.py` calls them. All but `check_trained` take a `Run` and need no torch, so that wrong names and paths are
reported at once. The trainer checks everything else.
"""

import os
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import differences
from dassl.engine.run_folder import CONFIG, RESULT
from dassl.utils.errors import InputError
from dassl.utils.outlines import read_class
from datasets._missing import Layout, missing_data
from experiments.arguments import Run
from experiments.classes import DATASETS, TRAINERS
from experiments.config import check_trainer, config_of, known_text, known_value, settings_of


def check_names(run: Run) -> None:
    """Raise InputError for an unknown trainer or data set, or a missing config file. Needs no torch."""
    check_trainer(run)
    settings_of(config_of(run))
    dataset = known_text(run, "DATASET.NAME")
    if dataset:
        DATASETS.find(dataset)


def check_paths(run: Run) -> None:
    """Raise InputError for missing data, weights or prompts. Needs no torch.

    A finished run doesn't need them, so call this only for a run without a result. The trainer checks everything else.
    """
    dataset = known_text(run, "DATASET.NAME")
    if dataset:
        _check_data(run, dataset)
    for key in ("DATASET.PATH", "MODEL.BACKBONE.PATH"):
        path = known_text(run, key)
        absolute = os.path.abspath(os.path.expanduser(path))
        if path and not os.path.exists(absolute):
            raise InputError(f"no {absolute} ({key})")
    _check_model_dir(run)


def _check_data(run: Run, dataset: str) -> None:
    """Raise InputError if files of a data set below DATASET.ROOT are missing.

    Does nothing if the class isn't a plain `FewShotDataset` with literal attributes. Such a class checks its files
    itself, when it is built.
    """
    outline = read_class(DATASETS.folder, DATASETS.registry, dataset, Layout._fields)
    if outline is None or not outline.is_plain("FewShotDataset", ("locate", "check_present")):
        return
    if known_value(run, "DATASET.PATH"):
        return
    root = os.path.abspath(os.path.expanduser(known_text(run, "DATASET.ROOT")))
    error = missing_data(outline.cls, root, os.path.join(root, Layout.of(outline.cls).dataset_dir))
    if error:
        raise error


def _check_model_dir(run: Run) -> None:
    """Raise InputError if the prompts to test are in no folder."""
    folder = known_text(run, "TEST.MODEL_DIR")
    if not folder or known_value(run, "TEST.EVAL_ONLY") not in (True, "True") or Path(folder).is_dir():
        return
    if run.protocol:
        raise InputError(f"nothing to test: no {folder}. Train first, with the same options, or name another folder")
    names = list(getattr(TRAINERS.find(run.trainer), "checkpoints", None) or [""])
    raise InputError(f"no {Path(folder) / names[0]} to load prompts from (--model-dir)")


def check_trained(cfg: CfgNode) -> None:
    """Raise InputError if the prompts to test are missing, unfinished, or trained with another config."""
    if not cfg.TEST.MODEL_DIR:
        return
    folder = Path(cfg.TEST.MODEL_DIR)
    if not folder.is_dir():
        raise InputError(f"nothing to test: no {folder}. Train first, with the same options, or name another folder")
    config = folder / CONFIG
    if not config.is_file():
        return  # prompts from elsewhere
    done = (folder / RESULT).is_file() or any(folder.glob(f"*/model.pth.tar-{cfg.OPTIM.MAX_EPOCH}"))
    if not done:
        raise InputError(f"the training in {folder} isn't finished: start it again, with the same options")
    differing = differences(cfg, config, ["MODEL", "OPTIM", "TRAINER"])
    if cfg.DATASET.SUBSAMPLE_CLASSES == "new":  # new classes must come from the same data, with the same shots
        differing += [
            key
            for key in differences(cfg, config, ["DATASET", "SEED"])
            if not key.startswith("DATASET.SUBSAMPLE_CLASSES")
        ]
    if differing:
        raise InputError(f"{folder} was trained with another config: {', '.join(differing)}")
