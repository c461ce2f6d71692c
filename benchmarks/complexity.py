"""The papers' complexity table: for every trainer, learnable parameters, GFLOPs a test image, images a second.

    python benchmarks/complexity.py [--trainers MaPLe CoOp ...] [--backbone vit_b16] [--classes 100] [--batch 4]

Weights are random and of the backbone's sizes; class names are ImageNet's. GFLOPs are those of a test image with the
text features, which are made once a test, left out, and in the column beside it with all of them (as the papers count).
Images a second are on this machine, in float32, the median of --repeats steps.
"""

import argparse
import json
import sys
from typing import Any

import measure
import torch
from torch.utils.flop_counter import FlopCounterMode

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, count_num_param


def seconds(step: Any, repeats: int) -> float:
    """Median time of `step()`, after one that doesn't count."""
    return measure.interleaved({"step": step}, repeats)["step"]


def flops(step: Any) -> float:
    """GFLOPs of `step()`: two for a multiplication and an addition, matrix products and convolutions only."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def row_of(trainer: str, model: CLIP, classes: int, batch: int, repeats: int) -> dict[str, Any]:
    """A row of the table."""
    kind = TRAINER_REGISTRY.get(trainer)
    prompted = measure.prompted(trainer, model, classes, [])
    size = model.visual.input_resolution
    image, images = torch.randn(1, 3, size, size), torch.randn(batch, 3, size, size)
    labels = torch.arange(batch) % classes
    row: dict[str, Any] = {"trainer": trainer, "parameters": count_num_param(prompted)}
    with torch.no_grad():
        row["gflops_all"] = flops(lambda: prompted(image))
        row["gflops"] = flops(lambda: prompted(image))  # text features are there now
        row["test_images_per_second"] = batch / seconds(lambda: prompted(images), repeats)
    row["train_images_per_second"] = None
    if row["parameters"] and trainer != "LinearProbe":

        def step() -> None:
            prompted.zero_grad()
            kind.loss(prompted(images), labels).backward()

        row["train_images_per_second"] = batch / seconds(step, repeats)
    return row


def main(argv: list[str]) -> int:
    names = measure.trainer_names()
    parser = argparse.ArgumentParser(description="Complexity table.")
    parser.add_argument("--trainers", nargs="+", default=names, choices=names)
    parser.add_argument("--backbone", default="vit_b16", choices=measure.SIZES)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
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
