"""Time of a training step, forward and backward: step_time.py [--trainer MaPLe] [--classes 100] [--baseline naive].

The baseline `fp32` is our own step in float32, for --prec bf16.
"""

import sys
from collections.abc import Callable
from typing import Any

import flops
import measure
import torch

from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method


def job(args: Any, prec: str) -> tuple[Method, Callable[[], None]]:
    """The method, and a training step of it."""
    model = measure.backbone(args.backbone, prec)
    method = measure.prompted(args.trainer, model, args.classes, args.opts)
    loss, images = TRAINER_REGISTRY.get(args.trainer).loss, measure.images(model, args.batch)
    labels = torch.arange(args.batch) % args.classes

    def step() -> None:
        method.zero_grad()
        loss(method(images), labels).backward()

    return method, step


def main(argv: list[str]) -> int:
    args = measure.parser("Time of a training step.", baselines=["naive", "fp32"]).parse_args(argv)
    method, step = job(args, args.prec)

    def as_original() -> None:
        with measure.naive(method):
            step()

    products, operations = measure.products(args.prec)
    jobs = {"fast": step, "products": products}
    if args.baseline:
        jobs[args.baseline] = as_original if args.baseline == "naive" else job(args, "fp32")[1]
    times = measure.interleaved(jobs, args.repeats)
    baseline = times.get(args.baseline)
    work, peak = flops.step(method, args.batch), operations / times["products"]
    print(f"{args.trainer}, {args.backbone}, {args.classes} classes, batch {args.batch}, {args.prec}: {times}")
    measure.report(times["fast"], baseline, work, peak)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
