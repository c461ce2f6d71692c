"""Draws test images with what each method says of them: picture.py FOLDER FILE.

FOLDER holds base-to-new results that were made with TEST.SAVE_PREDICTIONS True. The images are evenly spaced over the
test images of the base and of the new classes.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dassl.data.datasets import build_dataset
from dassl.utils import InputError
from trainers.common.options import run_config

COLUMNS = 8


def read_runs(folder: Path) -> list[tuple[str, Any, Any]]:
    """(trainer, config, predictions) of all runs below `folder`, which must be on the same data set and seed."""
    runs = []
    for path in sorted(folder.glob("**/predictions.npz")):
        cfg = run_config(path.parent)
        runs.append((cfg.TRAINER.NAME, cfg, np.load(path)))
    if not runs:
        raise InputError(f"no run below {folder} has predictions.npz: make them with TEST.SAVE_PREDICTIONS True")
    if len({(cfg.DATASET.CONFIG, cfg.SEED) for _, cfg, _ in runs}) > 1:
        raise InputError(f"the runs below {folder} are on several data sets or seeds: name the folder of one")
    return runs


def draw(parts: list[tuple[str, list]], file: Path) -> None:
    """One row of images for each ("base" or "new", runs)."""
    from matplotlib.figure import Figure

    lines = max(len(runs) for _, runs in parts)  # below each image
    height = 2.2 + 0.2 * lines
    figure = Figure(figsize=(2 * COLUMNS, height * len(parts)))
    grid = figure.subplots(len(parts), COLUMNS, squeeze=False)
    gap = 0.2 * lines + 0.4
    figure.subplots_adjust(0.01, (gap - 0.3) / height / len(parts), 0.99, 0.95, hspace=gap / (height - gap))
    for row, (part, runs) in zip(grid, parts, strict=True):
        dataset = build_dataset(runs[0][1])
        images = dataset.test or []
        chosen = np.linspace(0, len(images) - 1, COLUMNS).astype(int)
        for axes, number in zip(row, chosen, strict=True):
            item = images[number]
            with Image.open(item.impath) as image:
                axes.imshow(image.convert("RGB"))
            axes.set_axis_off()
            axes.set_title(f"{item.classname} ({part})", fontsize=9, fontweight="bold")
            for line, (trainer, _, predictions) in enumerate(runs):
                said = dataset.classnames[predictions["logits"][number].argmax()]
                color = "tab:green" if said == item.classname else "tab:red"
                place = {"transform": axes.transAxes, "ha": "center", "va": "top"}
                axes.text(0.5, -0.03 - 0.1 * line, f"{trainer}: {said}", color=color, fontsize=8, **place)
    figure.savefig(file, dpi=120)


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print("usage: python tools/picture.py FOLDER FILE", file=sys.stderr)
        return 2
    try:
        runs = read_runs(Path(argv[0]))
        parts = [(part, [run for run in runs if part == run[1].DATASET.SUBSAMPLE_CLASSES]) for part in ("base", "new")]
        draw([(part, some) for part, some in parts if some], Path(argv[1]))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Drew {argv[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
