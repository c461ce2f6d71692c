"""Writes a run's results: `result.json`, `predictions.npz`, `predictions.csv` and `fewshot.json`.

`SimpleTrainer` and `train.py` call these functions. Reports identify a run by its `result.json` and don't use the names
of folders, so `result.json` contains everything that identifies a run.
"""

import contextlib
import csv
import io
import os
import shlex
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dassl import distributed
from dassl.config import read_saved_config
from dassl.engine import metrics_log
from dassl.engine.run_folder import CONFIG, RESULT, Tested, dataset_label, digests, read_fingerprint
from dassl.utils.checksums import seal, with_checksum
from dassl.utils.errors import InputError
from dassl.utils.files import write_bytes, write_json, write_text
from dassl.utils.tools import versions

if TYPE_CHECKING:
    from dassl.engine.trainer import SimpleTrainer

PICKS, PREDICTIONS, PREDICTIONS_TABLE = "fewshot.json", "predictions.npz", "predictions.csv"
#: Files in the output folder that belong to the result. Which of them exist depends on the config.
_FILES = (CONFIG, PICKS, PREDICTIONS, PREDICTIONS_TABLE, metrics_log.NAME, "cmat.pt")


def trained_on(trainer: "SimpleTrainer") -> str | None:
    """Return the name of the data set that the tested prompts were trained on.

    Return "" if the trainer learns nothing, and None if the folder of the tested prompts contains no config.
    """
    cfg = trainer.cfg
    if not trainer.get_model_names():
        return ""
    if not cfg.TEST.EVAL_ONLY:
        return dataset_label(cfg)
    config = Path(cfg.TEST.MODEL_DIR) / CONFIG
    return dataset_label(read_saved_config(config)) if config.is_file() else None


def command_line() -> str:
    """Return the command that started this process, for example "python -m experiments.run base2new_train dtd MaPLe".

    If Python has started a module with -m, sys.argv[0] is the path of the module's file. That file can't be run as a
    script, so the command names the module instead.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec else sys.argv[:1]
    return shlex.join(["python", *program, *sys.argv[1:]])


def write_result(trainer: "SimpleTrainer") -> None:
    """Write `result.json` for the last test of `trainer`, and `predictions.npz` if TEST.SAVE_PREDICTIONS is set."""
    cfg, dataset = trainer.cfg, trainer.dm.dataset
    result = {
        "dataset": dataset_label(cfg),
        "trained_on": trained_on(trainer),
        "test_only": dataset.test_only,
        "split": trainer.tested_split or cfg.TEST.SPLIT,
        "subsample_classes": "all" if dataset.test_only else cfg.DATASET.SUBSAMPLE_CLASSES,
        "trainer": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.PATH or cfg.MODEL.BACKBONE.NAME,
        "config": cfg.TRAINER.CONFIG,
        "protocol": cfg.PROTOCOL,
        "options": {},  # the trainer's options; prompt trainers set them in `result_fields`
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "epoch": trainer.tested_epoch,
        **trainer.evaluator.record(),
        "seconds": round(time.time() - trainer.time_start if trainer.time_start else trainer.test_seconds, 3),
        "threads": torch.get_num_threads(),
        "processes": distributed.size(),
        "text_chunk": 0,  # class tokens that the text tower encodes at once; prompt trainers set it in `result_fields`
        "versions": versions(),
        "command": command_line(),
        **trainer.result_fields(),
    }
    folder = Path(cfg.OUTPUT_DIR)
    (folder / RESULT).unlink(missing_ok=True)  # an earlier result must not stand beside other predictions
    if cfg.TEST.SAVE_PREDICTIONS:
        write_predictions(trainer)
    tested = Tested.of(cfg)
    result |= {
        "fingerprint": _fingerprint(folder),
        "prompts": digests(tested.paths(trainer.get_model_names()), tested.folder),
        "files": digests((folder / name for name in _FILES), folder),
    }
    write_json(with_checksum(result), folder / RESULT)  # written last, because result.json marks the run as finished


def _fingerprint(folder: Path) -> dict[str, str] | None:
    """Return the fingerprint of the data and weights. None: the trainer was called without `experiments/`."""
    with contextlib.suppress(InputError):
        return read_fingerprint(folder)
    return None


def write_predictions(trainer: "SimpleTrainer") -> None:
    """Write `predictions.npz`: image paths, labels and logits (n, classes) of the last test.

    Also write `predictions.csv`, which names the class, the predicted class and its probability for each image.
    """
    evaluator = trainer.evaluator
    if not evaluator.logits:
        name = type(evaluator).__name__
        warnings.warn(f"predictions.npz isn't written because evaluator {name} doesn't collect logits", stacklevel=2)
        return
    content = io.BytesIO()
    paths = [_relative(path, trainer) for path in trainer.tested_paths]
    labels, logits = torch.cat(list(evaluator.labels)), torch.cat(list(evaluator.logits))
    np.savez_compressed(content, impath=np.array(paths), label=labels.numpy(), logits=logits.numpy())
    folder = Path(trainer.cfg.OUTPUT_DIR)
    write_bytes(seal(content), folder / PREDICTIONS)
    write_text(_predictions_table(paths, labels, logits, trainer.lab2cname), folder / PREDICTIONS_TABLE)


def _predictions_table(
    paths: Sequence[str], labels: torch.Tensor, logits: torch.Tensor, names: Mapping[int, str]
) -> str:
    """Return a CSV with the columns image, class, predicted, score and correct.

    Args:
        labels: (n,); or rows (n, n_classes) for several tasks, where -1 marks the classes of other tasks.
        logits: (n, n_classes).
    """
    if labels.ndim == 2:
        logits, labels = logits.masked_fill(labels < 0, -torch.inf), labels.argmax(1)
    scores, predicted = logits.softmax(-1).max(-1)  # (n,), (n,)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "class", "predicted", "score", "correct"])
    for path, label, guess, score in zip(paths, labels.tolist(), predicted.tolist(), scores.tolist(), strict=True):
        writer.writerow([path, names.get(label, label), names.get(guess, guess), f"{score:.6f}", int(label == guess)])
    return table.getvalue()


def write_picks(trainer: "SimpleTrainer") -> None:
    """Write `fewshot.json`: the training and validation images of this run, as [path, label, class name]."""
    dataset = trainer.dm.dataset
    picks = {
        # `_label` is always a number. If the data set has several tasks, `label` is a row with one entry per class.
        split: [[_relative(item.impath, trainer), item._label, item.classname] for item in items or []]
        for split, items in (("train", dataset.train_x), ("val", dataset.val))
    }
    write_json(with_checksum(picks), Path(trainer.cfg.OUTPUT_DIR) / PICKS)


def _relative(impath: str, trainer: "SimpleTrainer") -> str:
    """Return `impath` relative to DATASET.PATH, or relative to the data set's root folder if DATASET.PATH is "".

    If DATASET.PATH is a file that lists images, the returned path is relative to the folder of that file. The path is
    text in UTF-8, whatever the locale is.
    """
    cfg = trainer.cfg.DATASET
    base = Path(os.path.expanduser(cfg.PATH or trainer.dm.dataset.root or cfg.ROOT))
    relative = os.path.relpath(impath, base.parent if base.is_file() else base)
    return os.fsencode(relative).decode(errors="backslashreplace")
