"""Measures how the time of three commands grows with the number of files.

    python benchmarks/many_files.py [--images 50000] [--classes 1000] [--results 3000] [--repeats 3]

1. train.py on own images, from its start to its end, without training steps and tests: the folder is read, checked and
   hashed. The baseline is a folder with 18 images of 3 classes.
2. A dry run of the sweep base2new with 4 methods, 11 data sets, 3 seeds and 2 numbers of shots: 528 runs. The baseline
   is one run.
3. A report of the results of many runs, of which one in a hundred is damaged. The baseline is a report of two results.

The last line is JSON: the seconds of each command and of its baseline.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measure
import numpy as np
from PIL import Image

from experiments.config import ROOT

_FEW = (18, 3)  # images, classes


def make_folder(folder: Path, images: int, classes: int) -> Path:
    """Write small JPEG files of random pixels into one folder per class. They have thousands of different sizes."""
    names = measure.class_names(classes)
    for number in range(images):
        path = folder / names[number % classes].replace("/", " ") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.RandomState(number)
        pixels = random.randint(0, 256, (*random.randint(32, 97, 2), 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def make_results(folder: Path, count: int) -> Path:
    """Write results of runs of 20 methods on up to 50 data sets. One in a hundred is no valid JSON."""
    for number in range(count):
        method, (seed, dataset) = number % 20, divmod(number // 20, 50)
        result = {
            "dataset": f"Set{dataset}", "trained_on": f"Set{dataset}", "test_only": False, "split": "test",
            "subsample_classes": "all", "trainer": f"Method{method}", "backbone": "ViT-B/16", "config": "vit_b16",
            "shots": 16, "options": {}, "seed": seed, "macro_f1": 50.0, "accuracy": 50.0 + number % 40,
        }  # fmt: skip
        file = folder / f"{dataset}/method{method}/seed{seed}/result.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{" if number % 100 == 50 else json.dumps(result), encoding="utf-8")
    return folder


def execute(*words: object) -> None:
    """Execute a Python module or script.

    Raises:
        RuntimeError: the command fails.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def train(data: Path, output: Path) -> measure.Job:
    """Return a job that executes a run on a folder of images, without training steps and tests."""
    words = ["--trainer", "ZeroshotCLIP", "--dataset-config-file", "configs/datasets/folder.yaml", "--seed", 1]
    words += ["MODEL.BACKBONE.NAME", "ViT-Mini/8", "INPUT.SIZE", "(48,48)", "DATASET.NUM_SHOTS", 1]
    words += ["DATASET.PATH", data, "TEST.NO_TEST", True]
    numbers = itertools.count()
    return lambda: execute("train.py", "--output-dir", output / str(next(numbers)), *words)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Time commands that read many files.")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--results", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        many, few = make_folder(folder / "many", args.images, args.classes), make_folder(folder / "few", *_FEW)
        results, two = make_results(folder / "results", args.results), make_results(folder / "two", 2)
        sweep = ("-m", "experiments.sweep", "base2new", "--dry-run", "--output", folder / "none")
        one = ("--seeds", "1", "--trainers", "CoOp", "--datasets", "dtd")
        jobs = {
            "images": train(many, folder / "out_many"),
            "images_baseline": train(few, folder / "out_few"),
            "dry_run": lambda: execute(*sweep, "--shots", "8,16"),
            "dry_run_baseline": lambda: execute(*sweep, *one),
            "report": lambda: execute("report.py", results, "--html", folder / "many.html"),
            "report_baseline": lambda: execute("report.py", two, "--html", folder / "two.html"),
        }
        seconds = measure.interleaved(jobs, args.repeats)
    print(json.dumps({name: round(value, 2) for name, value in seconds.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
