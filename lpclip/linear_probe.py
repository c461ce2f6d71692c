"""Few-shot linear probe on features that feat_extractor.py wrote: 1, 2, 4, 8 and 16 shots, the mean of several runs.

    python lpclip/linear_probe.py --dataset DescribableTextures --feature_dir clip_feat --num_step 8 --num_run 3

Every run draws its own shots, and at most 4 a class for validation. Prints a table and writes report/<dataset>.json.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from dassl.utils import InputError, report_errors, write_json
from trainers.linear_probe import fit, search

Split = tuple[np.ndarray, np.ndarray]


def read(folder: Path, split: str) -> Split:
    """Features (n, d) and labels (n,) of a split. Raises InputError where they aren't there."""
    path = folder / f"{split}.npz"
    if not path.is_file():
        raise InputError(f"no {path}: run bash lpclip/feat_extractor.sh first")
    content = np.load(path)
    return content["feature_list"], content["label_list"]


def few_shots(data: Split, shots: int, rng: np.random.RandomState) -> Split:
    """`shots` samples of every class, drawn without repetition; all of a smaller class."""
    features, labels = data
    by_class = (np.flatnonzero(labels == label) for label in np.unique(labels))
    rows = np.concatenate([rng.choice(rows, min(shots, len(rows)), replace=False) for rows in by_class])
    return features[rows], labels[rows]


def probe(folder: Path, num_step: int, num_run: int) -> list[dict[str, float]]:
    """Mean and standard deviation of the test accuracy in percent, by number of shots."""
    splits = {split: read(folder, split) for split in ("train", "val", "test")}
    rows = []
    for shots in (1, 2, 4, 8, 16):
        accuracies = []
        for seed in range(1, num_run + 1):
            rng = np.random.RandomState(seed)
            shot_train = few_shots(splits["train"], shots, rng)
            shot_val = few_shots(splits["val"], min(shots, 4), rng)
            best = fit(*shot_train, search(shot_train, shot_val, num_step))
            accuracies.append(100 * best.score(*splits["test"]))
        rows.append({"shots": shots, "accuracy": float(np.mean(accuracies)), "std": float(np.std(accuracies))})
        print(f"{shots:2d} shots: {rows[-1]['accuracy']:.2f} +- {rows[-1]['std']:.2f} %")
    return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Few-shot linear probe.")
    parser.add_argument("--dataset", required=True, help="folder below --feature_dir")
    parser.add_argument("--feature_dir", default="clip_feat")
    parser.add_argument("--num_step", type=int, default=8, help="halvings of the search for the penalty")
    parser.add_argument("--num_run", type=int, default=10)
    parser.add_argument("--debug", action="store_true")
    args = parser.parse_args(argv)

    def job() -> None:
        rows = probe(Path(args.feature_dir) / args.dataset, args.num_step, args.num_run)
        write_json(rows, Path("report") / f"{args.dataset}.json")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
