"""What a run writes beside log and checkpoints: metrics, result, predictions, few-shot picks."""

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from yacs.config import CfgNode

from dassl.engine.run_folder import CONFIG, RESULT, dataset_label
from dassl.utils.tools import versions, write_json


class MetricsLog:
    """A line of JSON for every training batch in `metrics.jsonl`.

    A resumed run drops the lines of the epoch that it was cut off in, since it does that epoch again.
    """

    def __init__(self, folder: str | Path, start_epoch: int):
        self.path = Path(folder) / "metrics.jsonl"
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        whole = [line for line in lines if line.endswith("}")]  # a kill may have cut the last one
        kept = [line for line in whole if json.loads(line)["epoch"] <= start_epoch]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(line + "\n" for line in kept))

    def write(self, **values: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def trained_on(trainer: Any) -> str | None:
    """The data set that the tested prompts have learned from; empty where nothing is learned, None where the prompts
    came without their config."""
    cfg = trainer.cfg
    if not trainer.get_model_names():
        return ""
    if not cfg.TEST.EVAL_ONLY:
        return dataset_label(cfg)
    config = Path(cfg.TEST.MODEL_DIR) / CONFIG
    return dataset_label(CfgNode(yaml.safe_load(config.read_text()))) if config.is_file() else None


def write_result(trainer: Any) -> None:
    """Write `result.json` for the test that `trainer` did last, and `predictions.npz` where it is asked for."""
    cfg = trainer.cfg
    folder = Path(cfg.OUTPUT_DIR)
    started = getattr(trainer, "time_start", None)
    test_only = getattr(trainer.dm.dataset, "test_only", False)
    result = {
        "dataset": dataset_label(cfg),
        "trained_on": trained_on(trainer),
        "test_only": test_only,
        "split": trainer.tested_split or cfg.TEST.SPLIT,
        "subsample_classes": "all" if test_only else cfg.DATASET.SUBSAMPLE_CLASSES,
        "trainer": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.PATH or cfg.MODEL.BACKBONE.NAME,
        "config": cfg.TRAINER.CONFIG,
        "options": {},
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "epoch": trainer.tested_epoch,
        **trainer.evaluator.record(),
        "seconds": round(time.time() - started if started else trainer.test_seconds, 3),
        "threads": torch.get_num_threads(),
        "text_chunk": 0,
        **trainer.result_fields(),
        "versions": versions(),
        "command": shlex.join(["python", *sys.argv]),
    }
    if cfg.TEST.SAVE_PREDICTIONS:
        np.savez_compressed(
            folder / "predictions.npz",
            impath=np.array([_relative(path, trainer) for path in trainer.tested_paths]),
            label=torch.cat(trainer.evaluator.labels).numpy(),
            logits=torch.cat(trainer.evaluator.logits).numpy(),
        )
    write_json(result, folder / RESULT)


def write_picks(trainer: Any) -> None:
    """Write `fewshot.json`: the images that this run trains and validates on, as [path, label, class name]."""
    dataset = trainer.dm.dataset
    picks = {
        split: [[_relative(item.impath, trainer), item._label, item.classname] for item in items or []]
        for split, items in (("train", dataset.train_x), ("val", dataset.val))
    }
    write_json(picks, Path(trainer.cfg.OUTPUT_DIR) / "fewshot.json")


def _relative(impath: str, trainer: Any) -> str:
    """A path relative to the data: to DATASET.PATH (or the folder that file is in) or to the data set's root."""
    cfg = trainer.cfg.DATASET
    base = Path(cfg.PATH or getattr(trainer.dm.dataset, "root", cfg.ROOT)).expanduser()
    return os.path.relpath(impath, base.parent if base.is_file() else base)
