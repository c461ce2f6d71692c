"""Measures how long an evaluation takes, including the text features.

    python benchmarks/test_time.py [--images 200] [--spread 2000] [--baseline naive]

The benchmark classifies --images images, and extrapolates the time to --spread images. The value `seconds` is the
extrapolated time plus the time to compute the text features once. The baseline `naive` recomputes the text
features for every batch, as the original code does. The baseline `tower` runs only the frozen image tower.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import measure
import torch


def main(argv: list[str]) -> int:
    parser = measure.parser("Time an evaluation.", baselines=["naive", "tower"], batch=100, repeats=3)
    parser.add_argument("--images", type=int, default=200, help="number of timed images")
    parser.add_argument("--spread", type=int, default=2000, help="number of images for which the time is extrapolated")
    args = parser.parse_args(argv)
    model = measure.backbone(args.backbone, args.prec)
    method = measure.build_method(args.trainer, model, args.classes, args.opts)
    batch = measure.images(model, min(args.batch, args.images))
    batches, wanted = math.ceil(args.images / len(batch)), math.ceil(args.spread / len(batch))

    @torch.no_grad()
    def evaluate() -> None:
        """Classify the batches with cached text features."""
        for _ in range(batches):
            method(batch)

    @torch.no_grad()
    def prepare() -> None:
        """Compute the text features, if they are the same for all images."""
        method.clear_text_cache()
        if not method.text_depends_on_image:
            method.text_features()

    @torch.no_grad()
    def naive() -> None:
        with measure.naive(method):
            for _ in range(batches):
                method.clear_text_cache()
                method(batch)

    @torch.no_grad()
    def tower() -> None:
        for _ in range(batches):
            model.encode_image(batch)

    baselines = {"naive": naive, "tower": tower}
    products, operations = measure.products(args.prec)
    jobs: dict[str, measure.Job] = {"prepare": prepare, "fast": evaluate, "products": products}
    if args.baseline:
        jobs[args.baseline] = baselines[args.baseline]
    times = measure.interleaved(jobs, args.repeats)
    seconds = times["prepare"] + times["fast"] / batches * wanted
    baseline = times[args.baseline] / batches * wanted if args.baseline else None
    needed, peak = flops.test(method, args.spread), operations / times["products"]
    print(f"{args.trainer}, {args.classes} classes, {args.spread} images: {times}")
    measure.report(seconds, baseline, needed, peak)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
