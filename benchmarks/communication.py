"""Measures how long several processes take to exchange features and gradients in a training step.

    python benchmarks/communication.py --processes 2 --classes 1000

The exchange is that of a step: gathering the features of images and class names, adding the gradients of these
features, and adding the gradients of the learnable parameters. The towers don't run. The processes run on this
machine's CPU, so the result doesn't tell how fast GPUs are.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measure
import torch

from dassl import distributed


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    measure.add_processes(parser)
    parser.add_argument("--classes", type=int, default=1000, help="number of classes")
    parser.add_argument("--batch", type=int, default=64, help="number of images in a batch")
    parser.add_argument("--width", type=int, default=512, help="width of the features")
    parser.add_argument("--parameters", type=int, default=3_555_072, help="number of learnable parameters")
    parser.add_argument("--repeats", type=int, default=10, help="number of timed rounds (the median is used)")
    args = parser.parse_args(argv)
    if "RANK" not in os.environ:
        print(measure.in_processes(__file__, argv, args.processes)[0])
        return 0
    distributed.join()
    sharing = distributed.gathered_features()
    if sharing is None:
        parser.error("--processes must be at least 2")
    sizes = [[total // sharing.size + (part < total % sharing.size) for part in range(sharing.size)]
             for total in (args.batch, args.classes)]  # fmt: skip
    own = [torch.randn(sharing.own(counts), args.width, requires_grad=True) for counts in sizes]
    parameter = torch.zeros(args.parameters)

    def exchange() -> None:
        gathered = [sharing.gather(rows, counts) for rows, counts in zip(own, sizes, strict=True)]
        torch.autograd.backward(gathered, [torch.ones_like(rows) for rows in gathered])
        sharing.sum_gradients([parameter], [parameter])

    seconds = measure.interleaved({"exchange": exchange}, args.repeats)["exchange"]
    print(json.dumps({"processes": sharing.size, "classes": args.classes, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
