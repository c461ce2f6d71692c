"""Measures the peak memory of a training step: memory.py [--classes 300] [--chunk 1024] [--baseline naive].

With --processes 2, two processes share the step, and the baseline is a single process with one thread.

The peak memory is the largest resident size of the process minus its resident size before the step. A process can't
reset its largest resident size, so our step and the baseline run in separate processes. The benchmark also prints how
long the step takes, as the value `seconds`.
"""

import argparse
import contextlib
import json
import operator
import resource
import sys
import time
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import measure
import psutil

from dassl import distributed


class Figures(TypedDict):
    """The measurements of one process. The keys are names of arguments of `measure.report`."""

    seconds: float
    peak_bytes: int
    needed_flops: int | None
    peak_flops: float


def run_once(args: argparse.Namespace) -> Figures:
    """Run one training step in this process, and return its time and peak memory."""
    model = measure.backbone(args.backbone, args.prec)
    model.text_chunk = args.chunk // distributed.size()
    model.sharing = distributed.gathered_features()
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
    measure.add_processes(parser)
    parser.add_argument(
        "--chunk",
        type=int,
        default=0,
        help="tokens that are encoded at once, divided by --processes, which share the memory (0: all)",
    )
    parser.add_argument(
        "--way", choices=["fast", "naive"], help="for internal use: run this kind of step in this process"
    )
    args = parser.parse_args(argv)
    if args.way:
        distributed.join()
        print(json.dumps(run_once(args)))
        return 0
    found: dict[str, Figures] = {}
    ways = {"fast": ("fast", args.processes)}
    if args.processes > 1:
        ways["one process"] = ("fast", 1)
    elif args.baseline:
        ways["naive"] = ("naive", 1)
    for name, (way, processes) in ways.items():
        lines = measure.in_processes(__file__, [*argv, "--way", way], processes)
        found[name] = max(map(json.loads, lines), key=operator.itemgetter("peak_bytes"))  # the largest process
        print(f"{name}: {found[name]['peak_bytes'] / 2**20:,.0f} MiB, {found[name]['seconds']:.2f} s")
    fast, *others = found.values()
    baseline = others[0] if others else None
    ratio = baseline and baseline["peak_bytes"] / fast["peak_bytes"]
    measure.report(baseline_seconds=baseline and baseline["seconds"], ratio=ratio, **fast)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
