"""Measures how long a base-to-new run with images from disk takes.

    python benchmarks/end_to_end.py [--classes 20] [--shots 4] [--test 5] [--baseline naive]

A run trains on the base classes and tests on base and new classes, as `scripts/<method>/base2new_*.sh` do. The images
are generated JPEG files of 500 x 375 pixels.

The baseline `naive` is the same run, computed as in the original code. With the baseline `first`, the benchmark starts
two runs with different seeds, and measures only the tests on new classes. The first run's test is the baseline. This
test writes the image features to a cache, so the second run's test can read the features.
"""

import argparse
import contextlib
import csv
import io
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flops
import measure
import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

import train
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import cache_folder
from experiments.config import ROOT
from trainers.base import ClassNames, Method, Output, node_of

_SPLITS = ("train", "test")
_AS_ORIGINAL = ("TEST.CACHE_FEATURES", "False", "DATALOADER.DECODED_GB", "0.0")


def make_photos(folder: Path, classes: int, shots: int, test: int) -> None:
    """Write random noise images and the file list.csv, which lists the images, to `folder`.

    Each class has `shots` training images and `test` test images.
    """
    rng = np.random.RandomState(0)
    rows = [("path", "class", "split")]
    for label, name in enumerate(measure.class_names(classes)):
        for number in range(shots + test):
            scene = Image.fromarray(rng.randint(0, 256, (12, 16, 3), np.uint8)).resize((500, 375))
            pixels = np.asarray(scene) + rng.normal(0, 8, (375, 500, 3))
            path = folder / f"{label}_{number}.jpg"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
            rows.append((path.name, f"{label} {name}", _SPLITS[number >= shots]))
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def base_to_new(args: argparse.Namespace, folder: Path, output: Path, *opts: str, seed: int = 1) -> tuple[float, float]:
    """Train on base classes, and test on base and new classes.

    Args:
        args: arguments of the benchmark.
        folder: folder with list.csv and weights.pt.
        output: folder for the outputs of the run.
        opts: further options of train.py, as KEY VALUE pairs.

    Returns:
        The seconds of the whole run, and the seconds of the test on new classes.
    """
    start = time.perf_counter()
    trainer, side = TRAINER_REGISTRY.get(args.trainer), measure.SIZES[args.backbone].image_resolution
    argv = ["--trainer", args.trainer, "--seed", str(seed)]
    argv += ["--dataset-config-file", str(ROOT / "configs" / "datasets" / "folder.yaml")]
    argv += ["DATASET.PATH", str(folder / "list.csv"), "MODEL.BACKBONE.PATH", str(folder / "weights.pt")]
    argv += ["INPUT.SIZE", f"({side},{side})", "DATALOADER.TRAIN_X.BATCH_SIZE", str(args.batch)]
    argv += ["OPTIM.MAX_EPOCH", str(args.epochs), f"TRAINER.{node_of(trainer)}.PREC", args.prec]
    argv += [*args.opts, *opts]
    base, new = output / "base", output / "new"
    tests = [*argv, "--eval-only", "--model-dir", str(base), "--output-dir", str(new)]
    for part, classes in ([*argv, "--output-dir", str(base)], "base"), (tests, "new"):
        with contextlib.redirect_stdout(io.StringIO()):
            code = train.main([*part, "DATASET.SUBSAMPLE_CLASSES", classes])
        if code:
            sys.exit(code)
    return time.perf_counter() - start, json.loads((new / "result.json").read_text(encoding="utf-8"))["seconds"]


@contextlib.contextmanager
def as_original(trainer: str) -> Iterator[None]:
    """Inside this context, the trainer computes as the original code does.

    Methods that the trainer builds are patched by `measure.naive`, and recompute the text features for every batch.
    """
    cls = TRAINER_REGISTRY.get(trainer)
    build = cls.build_method
    with contextlib.ExitStack() as stack:

        def build_naive(cfg: CfgNode, clip: CLIP, classnames: ClassNames, template: str) -> Method:
            method = build(cfg, clip, classnames, template)
            classify = method.classify

            def classify_uncached(image_features: torch.Tensor) -> Output:
                method.clear_text_cache()
                return classify(image_features)

            stack.enter_context(measure.naive(method))
            stack.enter_context(mock.patch.object(method, "classify", classify_uncached))
            return method

        stack.enter_context(mock.patch.object(cls, "build_method", staticmethod(build_naive)))
        yield


def needed_flops(args: argparse.Namespace, model: CLIP) -> int | None:
    """Return the number of operations of the training and both tests. None if there is no formula for the method.

    The names of the new classes are assumed to have as many tokens as the names of the base classes.
    """
    base = math.ceil(args.classes / 2)
    method = measure.build_method(args.trainer, model, base, args.opts)
    steps = max(1, base * args.shots // args.batch) * args.epochs
    step, tested = flops.step(method, args.batch), flops.test(method, base * args.test)
    return steps * step + 2 * tested if step and tested else None


def main(argv: list[str]) -> int:
    parser = measure.parser("Time a base-to-new run.", baselines=["naive", "first"], classes=20, repeats=1)
    parser.add_argument("--shots", type=int, default=4, help="number of training images of each class")
    parser.add_argument("--test", type=int, default=5, help="number of test images of each class")
    parser.add_argument("--epochs", type=int, default=1, help="number of training epochs")
    args = parser.parse_args(argv)
    model = measure.backbone(args.backbone, "fp32")
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, XDG_CACHE_HOME=f"{name}/cache"):
        folder = Path(name)
        torch.save(model.state_dict(), folder / "weights.pt")
        make_photos(folder, args.classes, args.shots, args.test)
        seconds, baselines = [], []
        for number in range(args.repeats):
            output = folder / f"output{number}"
            measured, first = base_to_new(args, folder, output / "fast")
            if args.baseline == "first":
                baselines.append(first)
                measured = base_to_new(args, folder, output / "second", seed=2)[1]
            elif args.baseline == "naive":
                with as_original(args.trainer):
                    baselines.append(base_to_new(args, folder, output / "naive", *_AS_ORIGINAL)[0])
            seconds.append(measured)
            shutil.rmtree(cache_folder() / "features", ignore_errors=True)
    print(f"{args.trainer}, {args.classes} classes, {args.test} test images a class: {seconds}, baseline {baselines}")
    median, baseline = statistics.median(seconds), statistics.median(baselines) if baselines else None
    # With the baseline `first`, the number isn't reported: a test with cached image features needs few operations.
    needed = needed_flops(args, model) if args.baseline != "first" else None
    measure.report(median, baseline, needed, measure.rate(args.prec))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
