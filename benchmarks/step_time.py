"""Measures how long a training step (forward and backward pass) takes.

    python benchmarks/step_time.py [--trainer MaPLe] [--classes 100] [--baseline naive]

The baseline `naive` computes the step as the original code does. The baseline `fp32` computes the step with this
project's code in float32. Use it to find the gain of --prec bf16.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import measure

from trainers.base import Method


def build_job(args: argparse.Namespace, prec: str) -> tuple[Method, Callable[[], None]]:
    """Return the method, and a job that runs one training step of the method."""
    model = measure.backbone(args.backbone, prec)
    method = measure.build_method(args.trainer, model, args.classes, args.opts)
    return method, measure.training_step(method, measure.images(model, args.batch), args.classes)


def main(argv: list[str]) -> int:
    args = measure.parser("Time a training step.", baselines=["naive", "fp32"]).parse_args(argv)
    method, step = build_job(args, args.prec)

    def naive_step() -> None:
        with measure.naive(method):
            step()

    products, operations = measure.products(args.prec)
    jobs: dict[str, measure.Job] = {"fast": step, "products": products}
    if args.baseline:
        jobs[args.baseline] = naive_step if args.baseline == "naive" else build_job(args, "fp32")[1]
    times = measure.interleaved(jobs, args.repeats)
    baseline = times.get(args.baseline)
    needed, peak = flops.step(method, args.batch), operations / times["products"]
    print(f"{args.trainer}, {args.backbone}, {args.classes} classes, batch {args.batch}, {args.prec}: {times}")
    measure.report(times["fast"], baseline, needed, peak)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
