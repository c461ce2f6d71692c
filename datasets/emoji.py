"""Emoji scenes, a benchmark without a download. On first use, images are rendered from drawings in this repository.

Each of five data sets has the classes of one category. `Emoji` has all classes and replaces ImageNet in the papers'
protocols. Four versions of `Emoji` with a domain shift replace ImageNetV2, ImageNet-Sketch, ImageNet-A and ImageNet-R.
Train, val and test show the same drawings in different scenes. ViT-Mini/8 was pretrained on drawings in the styles of
EmojiR. The drawings of the other data sets have styles that weren't used in pretraining.
"""

import hashlib
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.seeds import mix_seed
from dassl.utils import InputError, cache_folder
from datasets import scenes
from datasets.base import FewShotDataset, Listed, Splits, TestOnly
from datasets.scenes import DrawnClass, Scene


class EmojiScenes(FewShotDataset):
    """Base class of the emoji data sets.

    An image has 48 x 48 pixels and is stored as <split>/<class name>/<style>_<number>.png in the data set's folder. The
    folders are cached in XDG_CACHE_HOME or ~/.cache/prompt-learning. The folder's name contains a hash of the
    drawings, of the file scenes.py and of the settings below. So if the drawings, the file or the settings change, all
    images are rendered again. The random numbers for an image depend only on its number and on the names of its data
    set, split, class and style.
    """

    category = ""  # category of the drawings; "" for all categories
    # Styles of the drawings. The scenes of a class cycle through these styles. Styles in which the class has no drawing
    # are skipped.
    styles: Sequence[str] = ("noto", "fluent")
    scene = Scene().softened(0.5)
    # Number of scenes per class in every split. Few-shot images are drawn from "train".
    counts: Mapping[str, int] = {"train": 24, "val": 8, "test": 12}
    by_hand = "nothing to download, because the images are rendered on first use"
    template = "a photo of a {}."
    xd_source = "emoji"

    def locate(self, cfg: CfgNode) -> str:
        self.root = str(cache_folder())
        sources = [path.read_bytes() for path in (Path(scenes.__file__), scenes.DRAWINGS)]
        settings = repr((self.category, self.styles, self.scene, self.counts)).encode()
        digest = hashlib.sha256(b"".join([*sources, settings])).hexdigest()
        return os.path.join(self.root, f"{type(self).__name__}-{digest[:8]}")

    def check_present(self) -> None:
        """Render the images if they are missing. If several processes start, one renders and the others wait."""
        folder = Path(self.dataset_dir)
        if folder.is_dir():
            return
        unfinished = folder.with_name(f".{folder.name}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    shutil.rmtree(unfinished, ignore_errors=True)
                    self._make(unfinished)
                    unfinished.rename(folder)  # atomic, so an interrupted run leaves no incomplete data set
        except OSError as error:
            raise InputError(f"can't create {folder}: {error}; set XDG_CACHE_HOME to another folder") from error

    def _make(self, folder: Path) -> None:
        """Render the scenes of all splits into `folder`."""
        for entry in tqdm(self.classes(), desc=f"Rendering {type(self).__name__} (only once)", unit=" classes"):
            drawings = {
                style: scenes.rasterise(svg) for style, svg in entry["drawings"].items() if style in self.styles
            }
            for split in self.counts:
                (folder / split / entry["name"]).mkdir(parents=True)
                for style, number, path in self._scenes(entry, split):
                    seed = mix_seed(type(self).__name__, split, entry["name"], style, number)
                    image = scenes.render(drawings[style], self.scene, np.random.default_rng(seed))
                    Image.fromarray(image).save(folder / path, compress_level=1)

    def _scenes(self, entry: DrawnClass, split: str) -> Iterator[tuple[str, int, str]]:
        """Yield (style, number, path below the data set's folder) of every scene of a class in a split."""
        styles = [style for style in self.styles if style in entry["drawings"]]
        for number in range(self.counts[split]):
            style = styles[number % len(styles)]
            yield style, number, os.path.join(split, entry["name"], f"{style}_{number}.png")

    def classes(self) -> list[DrawnClass]:
        """Return the classes of this category that have a drawing in one of the styles.

        The index of a class in this list is its label.
        """
        return [
            entry
            for entry in scenes.read_drawings()["classes"]
            if entry["category"] == (self.category or entry["category"]) and set(self.styles) & set(entry["drawings"])
        ]

    def listed(self, split: str) -> list[Listed]:
        """Return the images of a split, ordered by class."""
        return [
            Listed(os.path.join(self.dataset_dir, path), label, entry["name"])
            for label, entry in enumerate(self.classes())
            for _, _, path in self._scenes(entry, split)
        ]

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.listed("train"), self.listed("val"), self.listed("test")


@DATASET_REGISTRY.register()
class EmojiAnimals(EmojiScenes):
    """Images of 157 animals and plants. The images look dark and blue, as at dusk."""

    category = "animals"
    scene = Scene(camera="dusk").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiFood(EmojiScenes):
    """Images of 130 dishes, drinks and fruits. The images have a low resolution."""

    category = "food"
    scene = Scene(camera="coarse").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiTravel(EmojiScenes):
    """Images of 194 places, buildings, vehicles and skies. The images look pale, as in fog."""

    category = "travel"
    scene = Scene(camera="fog").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiObjects(EmojiScenes):
    """Images of 262 tools, clothes, instruments and other things. The images have false colours."""

    category = "objects"
    scene = Scene(camera="false colour").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiActivities(EmojiScenes):
    """Images of 84 things that belong to sports, games, arts or festivals. The images are rotated by 90 degrees."""

    category = "activities"
    scene = Scene(camera="overhead").softened(0.5)


@DATASET_REGISTRY.register()
class Emoji(EmojiScenes):
    """The data set with all 827 classes.

    It has the same role as ImageNet, so prompts that are trained on it are tested on the other emoji data sets.
    """

    counts = {"train": 24, "val": 4, "test": 4}


class EmojiVariant(TestOnly, EmojiScenes):
    """Base class of test sets for prompts trained on `Emoji`.

    A test set has only the classes with a drawing in one of its `styles`.
    """

    counts = {"test": 4}

    def read_annotations(self, rng: random.Random) -> Splits:
        items = self.listed("test")
        return items, None, items


@DATASET_REGISTRY.register()
class EmojiV2(EmojiVariant):
    """New and slightly harder scenes of the drawings in `Emoji` (corresponds to ImageNetV2)."""

    scene = Scene().softened(0.65)


@DATASET_REGISTRY.register()
class EmojiSketch(EmojiVariant):
    """Line drawings on white paper (corresponds to ImageNet-Sketch)."""

    styles = ("fluent-line",)
    scene = Scene(pose=0.5, light=0, clutter=0, blur=0, noise=0.05)


@DATASET_REGISTRY.register()
class EmojiA(EmojiVariant):
    """Hard scenes with distorted, recoloured and partly hidden drawings (corresponds to ImageNet-A)."""

    scene = Scene(warp=0.04, recolour=0.5, hidden=0.3).softened(0.65)


@DATASET_REGISTRY.register()
class EmojiR(EmojiVariant):
    """Drawings in styles that `Emoji` doesn't have (corresponds to ImageNet-R).

    ViT-Mini/8 was pretrained on drawings in these styles.
    """

    styles = ("noto-v1", "twemoji", "emojione", "fxemoji")
