"""Prints the papers' complexity table: learnable parameters, GFLOPs and images per second of each trainer.

    python benchmarks/complexity.py [--trainers MaPLe CoOp ...] [--backbone vit_b16] [--classes 100] [--batch 4]

Weights are random and have the backbone's sizes; class names are ImageNet's. The column `GFLOPs` counts a test image
without the text features, which are computed once a test. The column `+ text` counts all text features for each image,
as the papers do. Images per second are measured on this machine in float32, the median of --repeats steps.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measure
import torch
from torch.utils.flop_counter import FlopCounterMode

from clip.model import CLIP
from dassl.utils import InputError, count_num_param


class Row(TypedDict):
    """A row of the table. Keys are those of the last line."""

    trainer: str
    parameters: int
    gflops_all: float
    gflops: float
    test_images_per_second: float
    train_images_per_second: float | None


def median_seconds(job: measure.Job, repeats: int) -> float:
    """Return the median time of a job. One more run, the first, isn't counted."""
    return measure.interleaved({"job": job}, repeats)["job"]


def gflops(job: measure.Job) -> float:
    """Return the GFLOPs of a job's matrix products and convolutions, two for a multiplication and an addition."""
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops() / 1e9


def row_of(trainer: str, model: CLIP, classes: int, batch: int, repeats: int) -> Row:
    """Return the row of a trainer. Raises InputError if its method doesn't work with the backbone."""
    method = measure.build_method(trainer, model, classes, [])
    size = model.visual.input_resolution
    image, images = torch.randn(1, 3, size, size), torch.randn(batch, 3, size, size)
    parameters = count_num_param(method)
    with torch.no_grad():
        with_text = gflops(lambda: method(image))
        without_text = gflops(lambda: method(image))  # text features are cached now
        test_speed = batch / median_seconds(lambda: method(images), repeats)
    train_speed = None
    if parameters and method.has_loop:
        train_speed = batch / median_seconds(measure.training_step(method, images, classes), repeats)
    return {
        "trainer": trainer,
        "parameters": parameters,
        "gflops_all": with_text,
        "gflops": without_text,
        "test_images_per_second": test_speed,
        "train_images_per_second": train_speed,
    }


def main(argv: list[str]) -> int:
    names = measure.trainer_names()
    parser = argparse.ArgumentParser(description="Complexity table.")
    parser.add_argument("--trainers", nargs="+", default=names, choices=names)
    parser.add_argument("--backbone", default="vit_b16", choices=measure.SIZES)
    parser.add_argument("--classes", type=int, default=100, help="number of classes")
    parser.add_argument("--batch", type=int, default=4, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps; the median counts")
    args = parser.parse_args(argv)
    model = measure.backbone(args.backbone, "fp32")
    print(f"{args.backbone}, {args.classes} classes, batch {args.batch}, {torch.get_num_threads()} threads, float32")
    print(f"{'trainer':<18}{'parameters':>12}{'GFLOPs':>9}{'+ text':>9}{'test/s':>9}{'train/s':>9}")
    rows = []
    for name in args.trainers:
        try:
            row = row_of(name, model, args.classes, args.batch, args.repeats)
        except InputError as error:
            print(f"{name:<18}{error}")
            continue
        rows.append(row)
        train_speed = f"{row['train_images_per_second']:.2f}" if row["train_images_per_second"] else "-"
        print(
            f"{name:<18}{row['parameters']:>12,}{row['gflops']:>9.1f}{row['gflops_all']:>9.1f}"
            f"{row['test_images_per_second']:>9.2f}{train_speed:>9}"
        )
    print(json.dumps({"backbone": args.backbone, "classes": args.classes, "batch": args.batch, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
