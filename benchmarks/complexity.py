"""Prints a complexity table as in the papers: learnable parameters, GFLOPs and images per second of each trainer.

    python benchmarks/complexity.py [--trainers MaPLe CoOp ...] [--backbone vit_b16] [--classes 100] [--batch 4]

The weights are random tensors with the shapes of the backbone's weights, and the class names are from ImageNet. The
column `GFLOPs` is for one test image, without the text features, because a test computes the text features only once.
The column `+ text` includes the text features of all classes, as in the papers. Images per second are measured on this
machine in float32, and computed from the median time of --repeats steps.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measure
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from clip.model import CLIP
from dassl.utils import InputError, count_num_param


class Row(TypedDict):
    """A row of the table. The last line that the benchmark prints is JSON with a list of these rows."""

    trainer: str
    parameters: int
    gflops_all: float  # for one test image, with the text features of all classes
    gflops: float  # for one test image, without text features
    test_images_per_second: float
    train_images_per_second: float | None  # None if the method has no training loop


def median_seconds(job: measure.Job, repeats: int) -> float:
    """Run a job `repeats` times, and return the median time in seconds. An untimed warm-up run precedes these runs."""
    return measure.interleaved({"job": job}, repeats)["job"]


def _attention(q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(
    gradient: torch.Size, q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object
) -> int:
    return sdpa_backward_flop_count(gradient, q, k, v)


#: PyTorch's counter doesn't know the CPU's attention.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def gflops(job: measure.Job) -> float:
    """Run a job, and return the GFLOPs of its matrix products and convolutions. A multiply-add is two operations."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        job()
    return counter.get_total_flops() / 1e9


def row_of(trainer: str, model: CLIP, classes: int, batch: int, repeats: int) -> Row:
    """Return the table row of a trainer. Raises InputError if the trainer doesn't support the backbone."""
    method = measure.build_method(trainer, model, classes, [])
    size = model.visual.input_resolution
    image, images = torch.randn(1, 3, size, size), torch.randn(batch, 3, size, size)
    parameters = count_num_param(method)
    with torch.no_grad():
        with_text = gflops(lambda: method(image))
        without_text = gflops(lambda: method(image))  # the previous call has cached the text features
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
    parser = argparse.ArgumentParser(description="Print the complexity table of the trainers.")
    measure.add_trainers(parser)
    parser.add_argument("--backbone", default="vit_b16", choices=measure.SIZES)
    parser.add_argument("--classes", type=int, default=100, help="number of classes")
    parser.add_argument("--batch", type=int, default=4, help="number of images in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="number of timed steps (the median is used)")
    args = parser.parse_args(argv)
    model = measure.backbone(args.backbone, "fp32")
    print(f"{args.backbone}, {args.classes} classes, batch {args.batch}, {torch.get_num_threads()} threads, float32")
    print(f"{'trainer':<18}{'parameters':>12}{'GFLOPs':>9}{'+ text':>9}{'test/s':>9}{'train/s':>9}")
    rows = []
    for name in measure.chosen_trainers(args):
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
