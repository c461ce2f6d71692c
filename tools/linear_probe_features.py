"""Writes CLIP's image features of one split of a data set. `lpclip/feat_extractor.py` calls `main`.

    python lpclip/feat_extractor.py --split train --root data --seed 1 --output-dir clip_feat \\
        --dataset-config-file configs/datasets/dtd.yaml --config-file configs/trainers/CoOp/rn50_val.yaml

The features are written to <output-dir>/<DATASET.NAME>/<split>.npz, which linear_probe_search.py reads. The file holds
the arrays `feature_list` (n_images, embed_dim) and `label_list` (n_images,). The features aren't normalised.
"""

import argparse
from pathlib import Path

import numpy as np

import train
from dassl.data.datasets import build_dataset
from dassl.utils import choose_device, report_errors
from dassl.utils.files import report_full_disk
from trainers.base import load_backbone
from trainers.common.features import labelled_features


def extract(args: argparse.Namespace, split: str) -> None:
    """Write the image features of a split to <output-dir>/<DATASET.NAME>/<split>.npz.

    Args:
        args: the parsed arguments of train.py.
        split: train, val or test.
    """
    args.trainer = args.trainer or "LinearProbe"
    cfg = train.build_config(args)
    data = build_dataset(cfg)
    items = {"train": data.train_x, "val": data.val, "test": data.test}[split]
    device = choose_device(cfg.USE_CUDA)
    found = labelled_features(load_backbone(cfg).to(device), items or [], cfg, device)
    path = Path(cfg.OUTPUT_DIR) / cfg.DATASET.NAME / f"{split}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with report_full_disk(path):
        np.savez(path, feature_list=found.features.numpy(), label_list=found.labels.numpy())
    print(f"wrote {len(found.features)} features to {path}")


def main(argv: list[str]) -> int:
    """Write the features. `argv` holds --split and arguments of train.py. Returns the exit code, 0 for success."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--split", choices=("train", "val", "test"), required=True)
    known, rest = parser.parse_known_args(argv)
    args = train.parse_arguments(rest)
    return report_errors(lambda: extract(args, known.split), args.debug)
