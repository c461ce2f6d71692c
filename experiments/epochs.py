"""Tests a trained run after each of its epochs, for the curves of base and new classes in a report.

    python -m experiments.epochs RUN_FOLDER

The run needs a checkpoint of every epoch: train with TRAIN.CHECKPOINT_FREQ 1. If it was trained on the base classes,
the base and the new classes are tested; otherwise its own classes. The accuracies are written to epochs.json in the
run's folder.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from yacs.config import CfgNode

from dassl.engine.formats import EpochScores, read_result
from dassl.engine.run_folder import RESULT, exclusive_lock
from dassl.utils.checkpoint_files import saved_epochs
from dassl.utils.command_line import report_errors
from dassl.utils.errors import InputError
from dassl.utils.files import write_json
from experiments.execute import prepare_torch
from experiments.third_party import plain_surface


def accuracies_by_epoch(folder: Path) -> list[EpochScores]:
    """Return the accuracies on the test images after each epoch that has a checkpoint, in per cent.

    Raises:
        InputError: `folder` isn't a finished training, or it didn't keep the checkpoints of several epochs.
    """
    from dassl.engine import build_trainer
    from trainers.common.options import run_config

    cfg = run_config(folder)
    _check(folder, cfg)
    classes = cfg.DATASET.SUBSAMPLE_CLASSES
    found: dict[int, dict[str, float]] = {}
    for part in ("base", "new") if classes == "base" else (classes,):
        with tempfile.TemporaryDirectory() as temporary, plain_surface(cfg):
            prepare_torch(cfg)
            trainer = build_trainer(_config_of_test(cfg, part, temporary))
            for epoch in _epochs(folder, trainer.get_model_names()):
                trainer.load_model(str(folder), epoch=epoch)
                found.setdefault(epoch, {})[part] = trainer.test("test")
                print(f"Epoch {epoch}, {part} classes: {found[epoch][part]:.2f} %")
            trainer.close_writer()
    return [EpochScores(epoch=epoch, **scores) for epoch, scores in sorted(found.items())]


def _check(folder: Path, cfg: CfgNode) -> None:
    """Raise InputError if the run in `folder` can't have the checkpoints of several epochs, or isn't finished."""
    if cfg.TEST.EVAL_ONLY:
        trained = f": {cfg.TEST.MODEL_DIR}" if cfg.TEST.MODEL_DIR else ""
        raise InputError(f"{folder} was only tested. Name the folder of the training{trained}")
    if not (folder / RESULT).is_file():
        raise InputError(f"the run in {folder} isn't finished: it has no {RESULT}")
    if read_result(folder).trained_on == "":
        raise InputError(f"{folder}: {cfg.TRAINER.NAME} learns nothing, so it has no epochs")
    if not cfg.TRAIN.CHECKPOINT_FREQ:
        raise InputError(f"{folder} kept only its last checkpoints. To keep all, train with TRAIN.CHECKPOINT_FREQ 1")


def _config_of_test(cfg: CfgNode, part: str, output: str) -> CfgNode:
    """Return the config of a test of the classes `part`, which writes nothing to the run's folder."""
    cfg = cfg.clone()
    cfg.OUTPUT_DIR, cfg.RESUME, cfg.TRAIN.LOGGERS = output, "", ()
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.TEST.EVAL_ONLY, cfg.TEST.SAVE_PREDICTIONS = part, True, False
    cfg.freeze()
    return cfg


def _epochs(folder: Path, models: list[str]) -> list[int]:
    """Return the epochs, counted from 1, for which all models have a checkpoint."""
    saved = [set(saved_epochs(folder / name)) for name in models]
    epochs = sorted(set.intersection(*saved)) if saved else []
    if len(epochs) < 2:
        raise InputError(f"{folder} has no checkpoints of several epochs, so there is no curve")
    return epochs


def main(argv: list[str]) -> int:
    """Test a run's epochs, and write epochs.json. Returns the exit code: 0, 2 for a wrong input, or 1 for a failure."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        import msgspec

        if not args.folder.is_dir():
            raise InputError(f"the folder {args.folder} doesn't exist")
        with exclusive_lock(args.folder):
            scores = accuracies_by_epoch(args.folder)
            write_json([msgspec.to_builtins(each) for each in scores], args.folder / "epochs.json")
        print(f"Wrote {args.folder / 'epochs.json'}. report.py --html draws it")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
