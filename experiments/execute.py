"""Executes a run, which means to train and test, or only to test. A run that has already finished is skipped.

train.py and `run.py` call `execute`. If stored hashes (`finished.py`) show that the run has finished, torch isn't
imported.
"""

import contextlib
from pathlib import Path

from yacs.config import CfgNode

from dassl.engine.run_folder import CONFIG, RESULT, exclusive_lock, is_finished
from dassl.utils.errors import InputError
from dassl.utils.files import write_text
from experiments import finished
from experiments.arguments import Run
from experiments.checks import check_names, check_paths, check_trained
from experiments.config import resolve, values_of


def execute(run: Run) -> None:
    """Execute a run, that is, train and test, or only test. If the run has finished, only print a message.

    Raises:
        InputError: if an input is wrong, or if the output folder holds a run with another config.
    """
    check_names(run)
    if not run.no_train and finished.is_unchanged(run):
        _print_finished(finished.output_folder(run))
        return
    if run.no_train or not (finished.output_folder(run) / RESULT).is_file():
        check_paths(run)
    import torch  # noqa: F401  # if torch is missing, fail here instead of once per plugin

    cfg = resolve(run)
    if run.protocol:
        check_trained(cfg)
    run_config(cfg, run.no_train, run)


def run_config(cfg: CfgNode, no_train: bool = False, run: Run | None = None) -> None:
    """Execute the run that the config `cfg` describes. If the run has finished, only print a message.

    Args:
        cfg: the frozen config.
        no_train: build the data, model and optimiser, then stop.
        run: the run from which `cfg` was built. Hashes of the run's inputs are stored in the output folder, so that the
            next call quickly recognises that the run has finished. If `run` is None, no hashes are stored.
    """
    if no_train or not is_finished(cfg):
        with exclusive_lock(cfg.OUTPUT_DIR):
            if no_train or not is_finished(cfg):  # another process may have finished the run in the meantime
                train_and_test(cfg, no_train, run)
                return
    _print_finished(cfg.OUTPUT_DIR)
    if run:
        with contextlib.suppress(OSError):  # hashes can't be stored in a read-only folder, which isn't an error
            if finished.has_hashes(run):
                finished.refresh(run)
            else:
                _store_hashes_later(cfg, run)


def _print_finished(folder: str | Path) -> None:
    print(f"Finished already, nothing to do: the result of this config is in {folder}")


def _store_hashes_later(cfg: CfgNode, run: Run) -> None:
    """Store the hashes of a finished run and the list of the run's data files.

    Call this if the hashes or the list are missing or damaged. The hashes are missing if an older version of the
    project executed the run. The list is missing if the user has emptied the cache folder. This function builds the
    data set, which is slow, so that the next check of the run is quick.
    """
    from dassl.data.datasets import build_dataset

    if finished.hashes(run) is None:
        return  # nothing would be stored, so don't build the data set
    try:
        dataset = build_dataset(cfg)
    except Exception as error:  # a user's data set may raise any exception, but the run has finished
        print(f"The next call makes the slow check of this run again, because its data can't be read: {error}")
    else:
        finished.store(run, cfg, dataset)


def train_and_test(cfg: CfgNode, no_train: bool, run: Run | None) -> None:
    """Build the trainer, then train and test, or only test. Doesn't check whether the run has finished."""
    import torch

    from dassl.engine import build_trainer
    from dassl.engine.results import write_picks, write_result
    from dassl.utils import collect_env_info, set_deterministic, set_random_seed, setup_logger

    setup_logger(Path(cfg.OUTPUT_DIR) / "log.txt")  # a name such as x.log is a folder, too
    set_deterministic(cfg.DETERMINISTIC or not (cfg.USE_CUDA and torch.cuda.is_available()))
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    print(cfg, collect_env_info(), sep="\n\n")
    _print_values(cfg)
    trainer = build_trainer(cfg)
    if cfg.TEST.EVAL_ONLY and trainer.get_model_names() and not cfg.TEST.MODEL_DIR:
        raise InputError("--eval-only needs --model-dir, the folder of the trained prompts to test")
    if no_train:
        return
    if trainer.get_model_names() and not cfg.TEST.EVAL_ONLY and trainer.dm.dataset.test_only:
        raise InputError(
            f"{cfg.DATASET.NAME} is a test set: train on another data set, and use this one with --eval-only"
        )
    write_text(cfg.dump(), Path(cfg.OUTPUT_DIR) / CONFIG)
    if run:
        finished.store(run, cfg, trainer.dm.dataset)
    if not cfg.TEST.EVAL_ONLY:
        write_picks(trainer)
        trainer.train()
        return
    trainer.load_model(cfg.TEST.MODEL_DIR, epoch=cfg.TEST.LOAD_EPOCH if cfg.TEST.LOAD_EPOCH >= 0 else None)
    trainer.test()
    write_result(trainer)


def _print_values(cfg: CfgNode) -> None:
    """Print the config keys that the trainer sets for this data set and protocol, each with its final value.

    The final value differs from the trainer's value if a flag or KEY VALUE pair overrides the trainer's value.
    """
    from dassl.config import keys
    from dassl.engine import get_trainer

    values = values_of(get_trainer(cfg.TRAINER.NAME), cfg.DATASET.NAME, cfg.PROTOCOL)
    if values:
        resolved = dict(keys(cfg))
        pairs = " ".join(f"{key} {resolved[key]}" for key in values)
        print(f"Values of {cfg.TRAINER.NAME} for {cfg.DATASET.NAME} ({cfg.PROTOCOL or 'no protocol'}): {pairs}")
