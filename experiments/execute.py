"""Executes a run, which means to train and test, or only to test. A run that has already finished is skipped.

train.py and `run.py` call `execute`. If stored hashes (`finished.py`) show that the run has finished, torch isn't
imported.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from dassl import distributed
from dassl.engine.run_folder import CONFIG, RESULT, contains_run, dataset_label, exclusive_lock, reason_to_run
from dassl.utils.checksums import with_comment
from dassl.utils.errors import InputError
from dassl.utils.files import write_text
from experiments import fingerprint, finished
from experiments.arguments import Run
from experiments.checks import check_names, check_paths, check_trained
from experiments.config import resolve, values_of
from experiments.third_party import plain_surface

if TYPE_CHECKING:
    import torch

    from dassl.data.datasets import DatasetBase


def execute(run: Run) -> None:
    """Execute a run, that is, train and test, or only test. If the run has finished, only print a message.

    Raises:
        InputError: if an input is wrong, or if the output folder holds a run with another config.
    """
    distributed.join()
    check_names(run)
    if not run.no_train and distributed.on_main(lambda: finished.is_unchanged(run)):
        _print_finished(finished.output_folder(run))
        return
    if run.no_train or not distributed.on_main((finished.output_folder(run) / RESULT).is_file):
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
    if no_train or distributed.on_main(lambda: reason_to_run(cfg)) is not None:
        with exclusive_lock(cfg.OUTPUT_DIR):
            reason = distributed.on_main(
                lambda: reason_to_run(cfg)
            )  # another process may have finished the run in the meantime
            if no_train or reason is not None:
                if reason:
                    print(f"Not finished any more: {reason}")
                with plain_surface(cfg):
                    train_and_test(cfg, no_train, run)
                return
    distributed.on_main(lambda: finished.verify(run, cfg))
    _print_finished(cfg.OUTPUT_DIR)


def _print_finished(folder: str | Path) -> None:
    print(f"Finished already, nothing to do: the result of this config is in {folder}")


def prepare_torch(cfg: CfgNode) -> "torch.device":
    """Choose deterministic algorithms, on a CPU always, and set the seed. Returns the run's device."""
    from dassl.utils import choose_device, set_deterministic, set_random_seed

    device = choose_device(cfg.USE_CUDA)
    set_deterministic(cfg.DETERMINISTIC or device.type == "cpu")
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    return device


def train_and_test(cfg: CfgNode, no_train: bool, run: Run | None) -> None:
    """Build the trainer, then train and test, or only test. Doesn't check whether the run has finished."""
    from dassl.engine import build_trainer
    from dassl.engine.results import write_picks, write_result
    from dassl.utils import collect_env_info, setup_logger
    from dassl.utils.logger import print_details
    from inference.record import write_run_record
    from trainers.base import PromptTrainer

    log = Path(cfg.OUTPUT_DIR) / "log.txt"  # a name such as x.log is a folder, too
    setup_logger(log, is_verbose=bool(run and run.verbose))
    device = prepare_torch(cfg)
    print(f"{cfg.TRAINER.NAME} on {dataset_label(cfg)}, output in {cfg.OUTPUT_DIR}")
    print_details(f"{cfg}\n")
    print(collect_env_info(device))
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
    distributed.on_main(lambda: _store_inputs(cfg, trainer.dm.dataset, run))
    if isinstance(trainer, PromptTrainer):
        distributed.on_main(lambda: write_run_record(cfg, trainer.model.classnames, trainer.model.template))
    if not cfg.TEST.EVAL_ONLY:
        distributed.on_main(lambda: write_picks(trainer))
        trainer.train()
        return
    trainer.load_model(cfg.TEST.MODEL_DIR, epoch=cfg.TEST.LOAD_EPOCH if cfg.TEST.LOAD_EPOCH >= 0 else None)
    trainer.test()
    distributed.on_main(lambda: write_result(trainer))


def _store_inputs(cfg: CfgNode, dataset: "DatasetBase", run: Run | None) -> None:
    """Write the run's config, the fingerprint of its data and weights, and the hashes of its inputs to its folder.

    Raises InputError if the run is resumed and its data or weights have changed since it was started.
    """
    folder = Path(cfg.OUTPUT_DIR)
    now = fingerprint.fingerprint(fingerprint.sources_of(cfg, dataset))
    resumed = Path(cfg.RESUME or folder)
    if contains_run(resumed, only_tests=True):
        fingerprint.check_resumed(resumed, now)
    write_text(with_comment(cfg.dump()), folder / CONFIG)
    fingerprint.store(folder, now)
    if run:
        finished.store(run, cfg, dataset)


def _print_values(cfg: CfgNode) -> None:
    """Print the config keys that the trainer sets for this data set and protocol, each with its final value.

    The final value differs from the trainer's value if a flag or KEY VALUE pair overrides the trainer's value.
    """
    from dassl.config import keys
    from dassl.engine import get_trainer

    values = values_of(get_trainer(cfg.TRAINER.NAME), cfg)
    if values:
        resolved = dict(keys(cfg))
        pairs = " ".join(f"{key} {resolved[key]}" for key in values)
        print(f"Values of {cfg.TRAINER.NAME} for {cfg.DATASET.NAME} ({cfg.PROTOCOL or 'no protocol'}): {pairs}")
