"""Draws test images with the predictions of each method below them: picture.py FOLDER FILE.

`scripts/demo.sh` runs this file. FOLDER holds base-to-new runs that had the option TEST.SAVE_PREDICTIONS True. FILE is
the picture to write. The first row of the picture shows test images of base classes, and the second row shows test
images of new classes. The images are evenly spaced in the data set's list of test images.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from yacs.config import CfgNode

from dassl.data.datasets import build_dataset
from dassl.engine.formats import read_predictions
from dassl.utils import InputError, read_image, report_errors
from dassl.utils.files import report_full_disk
from trainers.common.options import run_config

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Number of images in a row.
COLUMNS = 8


@dataclass(frozen=True)
class PredictedRun:
    """A test run, with its config and its saved predictions."""

    cfg: CfgNode
    logits: np.ndarray  # (n_images, n_classes), in the order of the test images

    @property
    def trainer(self) -> str:
        return self.cfg.TRAINER.NAME

    @property
    def part(self) -> str:
        """The classes that the run tested: "base" or "new"."""
        return self.cfg.DATASET.SUBSAMPLE_CLASSES


def read_runs(folder: Path) -> list[PredictedRun]:
    """Read all runs with predictions below `folder`.

    Raises:
        InputError: no run has saved predictions, predictions are damaged, or the runs have different data sets or
            seeds.
    """
    paths = sorted(folder.glob("**/predictions.npz"))
    runs = [PredictedRun(run_config(path.parent), read_predictions(path.parent).logits) for path in paths]
    if not runs:
        raise InputError(
            f"no run below {folder} has a predictions.npz. Run again with the option TEST.SAVE_PREDICTIONS True"
        )
    if len({(run.cfg.DATASET.CONFIG, run.cfg.SEED) for run in runs}) > 1:
        raise InputError(
            f"the runs below {folder} have different data sets or seeds. Choose a folder with one data set and seed"
        )
    return runs


def draw(parts: list[tuple[str, list[PredictedRun]]], file: Path) -> None:
    """Draw one row of images for each part, and save the picture to `file`.

    Args:
        parts: pairs (name, runs). `name` is "base" or "new", and `runs` holds the runs that tested these classes.
        file: the picture to write.
    """
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["text.parse_math"] = False  # a $ in a class name must not start a formula
    lines = max(len(runs) for _, runs in parts)  # lines of text below each image
    height = 2.2 + 0.2 * lines
    figure = Figure(figsize=(2 * COLUMNS, height * len(parts)))
    grid = figure.subplots(len(parts), COLUMNS, squeeze=False)
    gap = 0.2 * lines + 0.4
    figure.subplots_adjust(0.01, (gap - 0.3) / height / len(parts), 0.99, 0.95, hspace=gap / (height - gap))
    for row, (part, runs) in zip(grid, parts, strict=True):
        _draw_row(list(row), part, runs)
    with report_full_disk(file):
        figure.savefig(file, dpi=120)


def _draw_row(row: "list[Axes]", part: str, runs: list[PredictedRun]) -> None:
    dataset = build_dataset(runs[0].cfg)
    images = dataset.test or []
    for run in runs:
        if run.logits.shape != (len(images), len(dataset.classnames)):
            raise InputError(
                f"the data set {run.cfg.DATASET.NAME} has changed since the run of {run.trainer} on {part} classes"
            )
    chosen = np.linspace(0, len(images) - 1, COLUMNS).astype(int)
    for axes, number in zip(row, chosen, strict=True):
        item = images[number]
        axes.imshow(read_image(item.impath))
        axes.set_axis_off()
        axes.set_title(f"{item.classname} ({part})", fontsize=9, fontweight="bold")
        for line, run in enumerate(runs):
            predicted = dataset.classnames[run.logits[number].argmax()]
            color = "tab:green" if predicted == item.classname else "tab:red"
            axes.text(
                0.5, -0.03 - 0.1 * line, f"{run.trainer}: {predicted}", color=color, fontsize=8, ha="center", va="top",
                transform=axes.transAxes,
            )  # fmt: skip


def main(argv: list[str]) -> int:
    """Draw the picture. Returns the exit code: 0, 2 for a wrong input, or 1 if a file can't be read or written."""
    parser = argparse.ArgumentParser(prog="python tools/picture.py", description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder that holds base-to-new runs")
    parser.add_argument("file", type=Path, metavar="FILE", help="picture to write")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)

    def job() -> None:
        runs = read_runs(args.folder)
        parts = [(part, [run for run in runs if run.part == part]) for part in ("base", "new")]
        if not any(on_part for _, on_part in parts):
            raise InputError(f"the runs below {args.folder} tested neither base nor new classes")
        draw([(part, on_part) for part, on_part in parts if on_part], args.file)
        print(f"Drew {args.file}")

    return report_errors(job, args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
