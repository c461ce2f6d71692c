"""Time of a whole evaluation, text features included: test_time.py [--images 200] [--spread 2000] [--baseline ...].

`seconds` is for --spread images: --images are timed, the text features' one-off cost is counted once. The baseline
`naive` makes the text features anew for every batch, as the original does; `tower` is the bare frozen image tower.
"""

import math
import sys

import flops
import measure
import torch


def main(argv: list[str]) -> int:
    parser = measure.parser("Time of an evaluation.", baselines=["naive", "tower"], batch=100, repeats=3)
    parser.add_argument("--images", type=int, default=200, help="how many are timed")
    parser.add_argument("--spread", type=int, default=2000, help="how many the time is for")
    args = parser.parse_args(argv)
    model = measure.backbone(args.backbone, args.prec)
    method = measure.prompted(args.trainer, model, args.classes, args.opts)
    batch = measure.images(model, min(args.batch, args.images))
    batches, wanted = math.ceil(args.images / len(batch)), math.ceil(args.spread / len(batch))

    @torch.no_grad()
    def evaluate() -> None:
        """The batches alone: text features are there."""
        for _ in range(batches):
            method(batch)

    @torch.no_grad()
    def prepare() -> None:
        method.forget()
        if args.trainer != "CoCoOp":
            method.text_features()

    @torch.no_grad()
    def naive() -> None:
        with measure.naive(method):
            for _ in range(batches):
                method.forget()
                method(batch)

    @torch.no_grad()
    def tower() -> None:
        for _ in range(batches):
            model.encode_image(batch)

    others = {"naive": naive, "tower": tower}
    products, operations = measure.products(args.prec)
    jobs = {"prepare": prepare, "fast": evaluate, "products": products}
    if args.baseline:
        jobs[args.baseline] = others[args.baseline]
    times = measure.interleaved(jobs, args.repeats)
    seconds = times["prepare"] + times["fast"] / batches * wanted
    baseline = times[args.baseline] / batches * wanted if args.baseline else None
    work, peak = flops.test(method, args.spread), operations / times["products"]
    print(f"{args.trainer}, {args.classes} classes, {args.spread} images: {times}")
    measure.report(seconds, baseline, work, peak)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
