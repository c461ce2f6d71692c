"""Writes CLIP's image features of a data set's split: <output-dir>/<DATASET.NAME>/<split>.npz, for linear_probe.py.

    python lpclip/feat_extractor.py --split train --root data --seed 1 --output-dir clip_feat \\
        --dataset-config-file configs/datasets/dtd.yaml --config-file configs/trainers/CoOp/rn50_val.yaml

The file holds `feature_list` (n, embed_dim), not normalised, and `label_list` (n,).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

import train
from dassl.data.datasets import build_dataset
from dassl.utils import report_errors
from trainers.base import load_backbone
from trainers.linear_probe import labelled_features


def extract(args: argparse.Namespace, split: str) -> None:
    """Write the features of `split` (train, val or test)."""
    args.trainer = args.trainer or "LinearProbe"
    cfg = train.build_config(args)
    data = build_dataset(cfg)
    items = {"train": data.train_x, "val": data.val, "test": data.test}[split]
    device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
    features, labels = labelled_features(load_backbone(cfg).to(device), items or [], cfg, device)
    path = Path(cfg.OUTPUT_DIR) / cfg.DATASET.NAME / f"{split}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, feature_list=features, label_list=labels)
    print(f"wrote {features.shape[0]} features to {path}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--split", choices=("train", "val", "test"), required=True)
    own, rest = parser.parse_known_args(argv)
    args = train.parse_arguments(rest)
    return report_errors(lambda: extract(args, own.split), args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
