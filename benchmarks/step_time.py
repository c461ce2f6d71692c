"""Time of a training step, forward and backward: step_time.py [--trainer MaPLe] [--classes 100] [--baseline naive]."""

import sys

import measure
import needed
import torch

from dassl.engine import TRAINER_REGISTRY


def main(argv: list[str]) -> int:
    args = measure.parser("Time of a training step.").parse_args(argv)
    model = measure.backbone(args.backbone, args.prec)
    method = measure.prompted(args.trainer, model, args.classes, args.opts)
    loss, images = TRAINER_REGISTRY.get(args.trainer).loss, measure.images(model, args.batch)
    labels = torch.arange(args.batch) % args.classes

    def step() -> None:
        method.zero_grad()
        loss(method(images), labels).backward()

    def as_original() -> None:
        with measure.naive(method):
            step()

    jobs = {"fast": step} | ({"naive": as_original} if args.baseline else {})
    times = measure.interleaved(jobs, args.repeats)
    work, peak = needed.step(method, args.batch, train=True), measure.peak_flops(args.prec)
    print(f"{args.trainer}, {args.backbone}, {args.classes} classes, batch {args.batch}, {args.prec}: {times}")
    measure.report(
        seconds=times["fast"],
        baseline_seconds=times.get("naive"),
        ratio=times["naive"] / times["fast"] if "naive" in times else None,
        needed_flops=work,
        peak_flops=peak,
        share=work / times["fast"] / peak if work else None,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
