"""Peak memory of a training step: the largest resident size less that after loading; memory.py [--chunk 1024].

Each way runs in a process of its own, since a peak can't be taken back. `seconds` is the step's time.
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

import flops
import measure
import psutil
import torch

from dassl.engine import TRAINER_REGISTRY


def once(args: measure.argparse.Namespace) -> dict[str, Any]:
    """One step in this process: its seconds, its peak in bytes, the operations that it needs, the machine's rate."""
    model = measure.backbone(args.backbone, args.prec)
    model.text_chunk = args.chunk
    method = measure.prompted(args.trainer, model, args.classes, args.opts)
    images, labels = measure.images(model, args.batch), torch.arange(args.batch) % args.classes
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    with measure.naive(method) if args.way == "naive" else measure.contextlib.nullcontext():
        TRAINER_REGISTRY.get(args.trainer).loss(method(images), labels).backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    work = flops.step(method, args.batch)
    return {"seconds": seconds, "peak_bytes": peak, "needed_flops": work, "peak_flops": measure.rate(args.prec)}


def main(argv: list[str]) -> int:
    parser = measure.parser("Peak memory of a training step.")
    parser.add_argument("--chunk", type=int, default=0, help="TRAINER.TEXT_CHUNK; 0: all class names at once")
    parser.add_argument("--way", choices=["fast", "naive"], help="this process does it (used by the benchmark itself)")
    args = parser.parse_args(argv)
    if args.way:
        print(json.dumps(once(args)))
        return 0
    found = {}
    for way in ["fast", "naive"] if args.baseline else ["fast"]:
        command = [sys.executable, __file__, *argv, "--way", way]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
        print(f"{way}: {found[way]['peak_bytes'] / 2**20:,.0f} MiB, {found[way]['seconds']:.2f} s")
    fast, naive = found["fast"], found.get("naive")
    ratio = naive and naive["peak_bytes"] / fast["peak_bytes"]
    measure.report(baseline_seconds=naive and naive["seconds"], ratio=ratio, **fast)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
