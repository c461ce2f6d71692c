"""Trains few-shot linear probes on the features that linear_probe_features.py wrote.

`lpclip/linear_probe.py` calls `main`:

    python lpclip/linear_probe.py --dataset DescribableTextures --feature_dir clip_feat --num_step 8 --num_run 3

A run with N shots draws N training images and min(N, 4) validation images of each class, and trains a probe on the
training images. N is 1, 2, 4, 8 or 16, and there are --num_run runs for each N. The mean accuracies over runs are
printed and written to report/<dataset>.json.
"""

import argparse
from pathlib import Path
from typing import TypedDict

import numpy as np

from dassl.config import Positive, field_types
from dassl.utils import InputError, write_json
from dassl.utils.arrays import read_arrays
from dassl.utils.typed import convert
from train import report_errors
from trainers.linear_probe import Arrays, LinearProbeOptions, fit, search

SHOTS = (1, 2, 4, 8, 16)


class Row(TypedDict):
    """The mean test accuracy for a number of shots, and the standard deviation over runs (divisor n), in per cent."""

    shots: int
    accuracy: float
    std: float


def read_split(folder: Path, split: str) -> Arrays:
    """Return the features (n, embed_dim) and the labels (n,) of a split.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / f"{split}.npz"
    if not path.is_file():
        raise InputError(f"the file {path} doesn't exist. Run bash lpclip/feat_extractor.sh first")
    features, labels = read_arrays(path, {"feature_list": (2,), "label_list": (1,)})
    if len(features) != len(labels) or not features.size or labels.dtype.kind not in "iu":
        raise InputError(f"{path}: the features {features.shape} and the labels {labels.shape} don't fit together")
    return features, labels


def draw_shots(data: Arrays, shots: int, rng: np.random.RandomState) -> Arrays:
    """Draw `shots` samples of every class without replacement. If a class has fewer samples, all of them are used."""
    features, labels = data
    by_class = (np.flatnonzero(labels == label) for label in np.unique(labels))
    rows = np.concatenate([rng.choice(rows, min(shots, len(rows)), replace=False) for rows in by_class])
    return features[rows], labels[rows]


def probe(folder: Path, num_step: int, num_run: int) -> list[Row]:
    """Return the test accuracies on a data set. Each row holds the result for one number of shots.

    Args:
        folder: the folder that holds train.npz, val.npz and test.npz.
        num_step: number of halvings in the search for the strength of the L2 penalty.
        num_run: number of runs for each number of shots. The seeds of the runs are 1 to `num_run`.
    """
    splits = {split: read_split(folder, split) for split in ("train", "val", "test")}
    if len({features.shape[1] for features, _ in splits.values()}) > 1:
        raise InputError(f"the splits in {folder} have features of different sizes")
    if len(np.unique(splits["train"][1])) < 2:
        raise InputError(f"{folder / 'train.npz'} has only one class")
    rows: list[Row] = []
    for shots in SHOTS:
        accuracies = []
        for seed in range(1, num_run + 1):
            rng = np.random.RandomState(seed)
            shot_train = draw_shots(splits["train"], shots, rng)
            shot_val = draw_shots(splits["val"], min(shots, 4), rng)
            best = fit(*shot_train, search(shot_train, shot_val, num_step))
            accuracies.append(100 * best.score(*splits["test"]))
        rows.append({"shots": shots, "accuracy": float(np.mean(accuracies)), "std": float(np.std(accuracies))})
        print(f"{shots:2d} shots: {rows[-1]['accuracy']:.2f} +- {rows[-1]['std']:.2f} %")
    return rows


def main(argv: list[str]) -> int:
    """Train linear probes on a data set. Returns the exit code: 0, or 2 if the input is invalid."""
    parser = argparse.ArgumentParser(description="Few-shot linear probe.")
    parser.add_argument("--dataset", required=True, help="name of the data set's folder in --feature_dir")
    parser.add_argument("--feature_dir", default="clip_feat", help="folder that holds the features of all data sets")
    parser.add_argument(
        "--num_step", type=int, default=8, help="number of halvings in the search for the best L2 penalty"
    )
    parser.add_argument("--num_run", type=int, default=10, help="number of runs for each number of shots")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        convert(args.num_step, field_types(LinearProbeOptions)["NUM_STEP"], "--num_step")
        convert(args.num_run, Positive, "--num_run")
        rows = probe(Path(args.feature_dir) / args.dataset, args.num_step, args.num_run)
        write_json(rows, Path("report") / f"{args.dataset}.json")

    return report_errors(job, args.debug)
