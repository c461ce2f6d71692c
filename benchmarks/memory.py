"""Measures the peak memory of a training step: memory.py [--classes 300] [--chunk 1024] [--baseline naive].

The peak memory is the largest resident size of the process minus its resident size before the step. A process can't
reset its largest resident size, so our step and the baseline run in separate processes. The benchmark also prints how
long the step takes, as the value `seconds`.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import measure
import psutil


class Figures(TypedDict):
    """The measurements of one process. The keys are names of arguments of `measure.report`."""

    seconds: float
    peak_bytes: int
    needed_flops: int | None
    peak_flops: float


def run_once(args: argparse.Namespace) -> Figures:
    """Run one training step in this process, and return its time and peak memory."""
    model = measure.backbone(args.backbone, args.prec)
    model.text_chunk = args.chunk
    method = measure.build_method(args.trainer, model, args.classes, args.opts)
    step = measure.training_step(method, measure.images(model, args.batch), args.classes)
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    with measure.naive(method) if args.way == "naive" else contextlib.nullcontext():
        step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before  # ru_maxrss is in KiB
    needed = flops.step(method, args.batch)
    return {"seconds": seconds, "peak_bytes": peak, "needed_flops": needed, "peak_flops": measure.rate(args.prec)}


def main(argv: list[str]) -> int:
    parser = measure.parser("Measure the peak memory of a training step.")
    parser.add_argument("--chunk", type=int, default=0, help="TRAINER.TEXT_CHUNK (0: encode all class names at once)")
    parser.add_argument(
        "--way", choices=["fast", "naive"], help="for internal use: run this kind of step in this process"
    )
    args = parser.parse_args(argv)
    if args.way:
        print(json.dumps(run_once(args)))
        return 0
    found: dict[str, Figures] = {}
    for name in ["fast", "naive"] if args.baseline else ["fast"]:
        command = [sys.executable, __file__, *argv, "--way", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {found[name]['peak_bytes'] / 2**20:,.0f} MiB, {found[name]['seconds']:.2f} s")
    fast, naive = found["fast"], found.get("naive")
    ratio = naive and naive["peak_bytes"] / fast["peak_bytes"]
    measure.report(baseline_seconds=naive and naive["seconds"], ratio=ratio, **fast)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
