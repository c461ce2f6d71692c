"""A whole base-to-new run with images from disk: end_to_end.py [--classes 20] [--shots 4] [--test 5] [--baseline ...].

Training on the base classes, their test, and that of the new classes, as `scripts/<method>/base2new_*.sh` do it, on
made photos of 500 x 375. The baseline `naive` is the whole run as the original does it; `first` compares the evaluation
of the new classes alone: a second seed's with the first's, whose image features it may share.
"""

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
from typing import Any
from unittest import mock

import flops
import measure
import numpy as np
import torch
from PIL import Image

import train
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import cache_folder

_SPLITS = ("train", "test")
_AS_ORIGINAL = ("TEST.CACHE_FEATURES", "False", "DATALOADER.DECODED_GB", "0.0")


def make_photos(folder: Path, classes: int, shots: int, test: int) -> None:
    """Photos of made scenes with noise, and the list of them."""
    rng = np.random.RandomState(0)
    rows = [("path", "class", "split")]
    for label, name in enumerate(measure.class_names(classes)):
        for number in range(shots + test):
            scene = Image.fromarray(rng.randint(0, 256, (12, 16, 3), np.uint8)).resize((500, 375))
            pixels = np.asarray(scene) + rng.normal(0, 8, (375, 500, 3))
            path = folder / f"{label}_{number}.jpg"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
            rows.append((path.name, f"{label} {name}", _SPLITS[number >= shots]))
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def base_to_new(args: Any, folder: Path, output: Path, *opts: str, seed: int = 1) -> tuple[float, float]:
    """Seconds of the three parts together, and those of the new classes' evaluation."""
    start = time.perf_counter()
    kind, side = TRAINER_REGISTRY.get(args.trainer), measure.SIZES[args.backbone].image_resolution
    words = ["--trainer", args.trainer, "--seed", str(seed)]
    words += ["--dataset-config-file", str(train.ROOT / "configs" / "datasets" / "folder.yaml")]
    words += ["DATASET.PATH", str(folder / "list.csv"), "MODEL.BACKBONE.PATH", str(folder / "weights.pt")]
    words += ["INPUT.SIZE", f"({side},{side})", "DATALOADER.TRAIN_X.BATCH_SIZE", str(args.batch)]
    words += ["OPTIM.MAX_EPOCH", str(args.epochs), f"TRAINER.{kind.node or kind.__name__.upper()}.PREC", args.prec]
    words += [*args.opts, *opts]
    base, new = output / "base", output / "new"
    tests = [*words, "--eval-only", "--model-dir", str(base), "--output-dir", str(new)]
    for part, classes in ([*words, "--output-dir", str(base)], "base"), (tests, "new"):
        with contextlib.redirect_stdout(io.StringIO()):
            code = train.main([*part, "DATASET.SUBSAMPLE_CLASSES", classes])
        if code:
            sys.exit(code)
    return time.perf_counter() - start, json.loads((new / "result.json").read_text())["seconds"]


@contextlib.contextmanager
def as_original(trainer: str) -> Iterator[None]:
    """Inside, a trainer works as its original does, with text features for every batch of a test."""
    kind = TRAINER_REGISTRY.get(trainer)
    make = kind.make_model
    with contextlib.ExitStack() as stack:

        def naive(*about: Any) -> Any:
            method = make(*about)
            stack.enter_context(measure.naive(method))
            method.register_forward_pre_hook(lambda *_: method.forget())
            return method

        with mock.patch.object(kind, "make_model", staticmethod(naive)):
            yield


def needed_of(args: Any, model: CLIP) -> int | None:
    """Operations of the training and both tests: class names differ in length, the halves are taken as alike."""
    base = math.ceil(args.classes / 2)
    method = measure.prompted(args.trainer, model, base, args.opts)
    steps = max(1, base * args.shots // args.batch) * args.epochs
    step, tested = flops.step(method, args.batch), flops.test(method, base * args.test)
    return steps * step + 2 * tested if step and tested else None


def main(argv: list[str]) -> int:
    parser = measure.parser("Time of a base-to-new run.", baselines=["naive", "first"], classes=20, repeats=1)
    parser.add_argument("--shots", type=int, default=4, help="training images of a class")
    parser.add_argument("--test", type=int, default=5, help="test images of a class")
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args(argv)
    model = measure.backbone(args.backbone, "fp32")
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, XDG_CACHE_HOME=f"{name}/cache"):
        folder = Path(name)
        torch.save(model.state_dict(), folder / "weights.pt")
        make_photos(folder, args.classes, args.shots, args.test)
        seconds, baselines = [], []
        for number in range(args.repeats):
            output = folder / f"output{number}"
            whole, first = base_to_new(args, folder, output / "fast")
            if args.baseline == "first":
                baselines.append(first)
                whole = base_to_new(args, folder, output / "second", seed=2)[1]
            elif args.baseline == "naive":
                with as_original(args.trainer):
                    baselines.append(base_to_new(args, folder, output / "naive", *_AS_ORIGINAL)[0])
            seconds.append(whole)
            shutil.rmtree(cache_folder() / "features", ignore_errors=True)
    print(f"{args.trainer}, {args.classes} classes, {args.test} test images a class: {seconds}, baseline {baselines}")
    median, baseline = statistics.median(seconds), statistics.median(baselines) if baselines else None
    work = needed_of(args, model) if args.baseline != "first" else None  # a second evaluation needs hardly any
    measure.report(median, baseline, work, measure.rate(args.prec))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
