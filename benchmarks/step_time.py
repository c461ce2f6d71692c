"""Measures how long a training step (forward and backward pass) takes.

    python benchmarks/step_time.py [--trainer MaPLe] [--classes 100] [--baseline naive]

The baseline `naive` computes the step as the original code does. The baseline `fp32` computes the step with this
project's code in float32. Use it to find the gain of --prec bf16. The name of a trainer as baseline compares two
methods, for example KgCoOp with CoOp, which it builds on. With --processes 2, two processes share the step, and the
baseline is a single process. Each process has one thread.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import measure

from dassl import distributed
from trainers.base import Method


def build_job(args: argparse.Namespace, trainer: str, prec: str) -> tuple[Method, Callable[[], None]]:
    """Return the trainer's method, and a job that runs one training step of the method."""
    model = measure.backbone(args.backbone, prec)
    method = measure.build_method(trainer, model, args.classes, args.opts)
    return method, measure.training_step(method, measure.images(model, args.batch), args.classes)


def main(argv: list[str]) -> int:
    parser = measure.parser("Time a training step.", baselines=["naive", "fp32", *measure.trained_in_steps()])
    measure.add_processes(parser)
    args = parser.parse_args(argv)
    if args.processes > 1 and "RANK" not in os.environ:
        print(measure.in_processes(__file__, argv, args.processes)[0])
        return 0
    distributed.join()
    method, step = build_job(args, args.trainer, args.prec)

    def naive_step() -> None:
        with measure.naive(method):
            step()

    products, operations = measure.products(args.prec)
    jobs: dict[str, measure.Job] = {"fast": step, "products": products}
    if args.baseline == "naive":
        jobs["naive"] = naive_step
    elif args.baseline == "fp32":
        jobs["fp32"] = build_job(args, args.trainer, "fp32")[1]
    elif args.baseline:
        jobs[args.baseline] = build_job(args, args.baseline, args.prec)[1]
    if args.processes > 1:
        args.baseline, method.clip.sharing = "one process", distributed.gathered_features()
        alone, shared = step, measure.training_step(method, measure.images(method.clip, args.batch), args.classes)

        def one_process() -> None:
            """Let the main process do the step, while the others wait."""
            with method.clip.alone():
                distributed.on_main(alone)

        jobs |= {"fast": shared, args.baseline: one_process}
    times = measure.interleaved(jobs, args.repeats)
    baseline = times.get(args.baseline)
    needed, peak = flops.step(method, args.batch), operations / times["products"]
    print(f"{args.trainer}, {args.backbone}, {args.classes} classes, batch {args.batch}, {args.prec}: {times}")
    measure.report(times["fast"], baseline, needed, peak)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
