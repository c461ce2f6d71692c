"""Emoji scenes: a benchmark that is made on first use, out of drawings in this repository. Nothing is downloaded.

Five data sets by category, one of all classes in ImageNet's role, and four shifted versions of it in the roles of V2,
Sketch, A and R. The drawings' styles are held out from the pretraining of ViT-Mini/8, but for EmojiR's. Train, val and
test share drawings (but in EmojiR, whose styles nobody trains on) and no scene.
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

from dassl.data.data_manager import mix_seed
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, cache_folder
from datasets import scenes
from datasets.base import FewShotDataset, Listed, TestOnly
from datasets.scenes import Scene


class EmojiScenes(FewShotDataset):
    """Scenes of emoji drawings: 48 x 48 pixels, <split>/<class name>/<style>_<number>.png.

    They are kept in ~/.cache/prompt-learning (in XDG_CACHE_HOME, where that is set), in a folder that is named by all
    that decides them, and made where it isn't there. Every image depends on the names of data set, split, class and
    style and on its number alone.
    """

    category = ""  # empty: all
    styles: Sequence[str] = ("noto", "fluent")  # take turns where a class has them
    scene = Scene().softened(0.5)
    counts: Mapping[str, int] = {"train": 24, "val": 8, "test": 12}  # scenes of a class; few-shot picks are of "train"
    by_hand = "nothing to get: it is made on first use"
    template = "a photo of a {}."
    xd_source = "emoji"

    def locate(self, cfg) -> str:
        self.root = str(cache_folder())
        sources = [path.read_bytes() for path in (Path(scenes.__file__), scenes.DRAWINGS)]
        decides = repr((self.category, self.styles, self.scene, self.counts)).encode()
        digest = hashlib.sha256(b"".join([*sources, decides])).hexdigest()
        return os.path.join(self.root, f"{type(self).__name__}-{digest[:8]}")

    def check_present(self) -> None:
        """Make the images, unless they are there. Of several processes one makes them, and the others wait."""
        folder = Path(self.dataset_dir)
        if folder.is_dir():
            return
        making = folder.with_name(f".{folder.name}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    shutil.rmtree(making, ignore_errors=True)
                    self._make(making)
                    making.rename(folder)
        except OSError as error:
            raise InputError(f"can't make {folder}: {error}; XDG_CACHE_HOME names another folder for it") from error

    def _make(self, folder: Path) -> None:
        for entry in tqdm(self.classes(), desc=f"Making {type(self).__name__}, once", unit=" classes"):
            drawings = {
                style: scenes.rasterise(svg) for style, svg in entry["drawings"].items() if style in self.styles
            }
            for split in self.counts:
                (folder / split / entry["name"]).mkdir(parents=True)
                for style, number, path in self._scenes(entry, split):
                    seed = mix_seed(type(self).__name__, split, entry["name"], style, number)
                    image = scenes.render(drawings[style], self.scene, np.random.default_rng(seed))
                    Image.fromarray(image).save(folder / path, compress_level=1)

    def _scenes(self, entry: dict, split: str) -> Iterator[tuple[str, int, str]]:
        """Style, number and path (below the folder) of every scene of a class in a split."""
        styles = [style for style in self.styles if style in entry["drawings"]]
        for number in range(self.counts[split]):
            style = styles[number % len(styles)]
            yield style, number, os.path.join(split, entry["name"], f"{style}_{number}.png")

    def classes(self) -> list[dict]:
        """The drawings' entries of this category's classes that have one of the styles, in order of labels."""
        return [
            entry
            for entry in scenes.read_drawings()["classes"]
            if entry["category"] == (self.category or entry["category"]) and set(self.styles) & set(entry["drawings"])
        ]

    def listed(self, split: str) -> list[Listed]:
        """The images of a split, class by class."""
        return [
            Listed(os.path.join(self.dataset_dir, path), label, entry["name"])
            for label, entry in enumerate(self.classes())
            for _, _, path in self._scenes(entry, split)
        ]

    def read_annotations(self, rng: random.Random):
        return tuple(self.listed(split) for split in ("train", "val", "test"))


@DATASET_REGISTRY.register()
class EmojiAnimals(EmojiScenes):
    """157 animals and plants, at dusk."""

    category = "animals"
    scene = Scene(camera="dusk").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiFood(EmojiScenes):
    """130 dishes, drinks and fruits, in few pixels."""

    category = "food"
    scene = Scene(camera="coarse").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiTravel(EmojiScenes):
    """194 places, buildings, vehicles and skies, in fog."""

    category = "travel"
    scene = Scene(camera="fog").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiObjects(EmojiScenes):
    """262 tools, clothes, instruments and other things, in false colours."""

    category = "objects"
    scene = Scene(camera="false colour").softened(0.5)


@DATASET_REGISTRY.register()
class EmojiActivities(EmojiScenes):
    """84 things of sports, games, arts and feasts, turned by a quarter."""

    category = "activities"
    scene = Scene(camera="overhead").softened(0.5)


@DATASET_REGISTRY.register()
class Emoji(EmojiScenes):
    """All 827 classes, in ImageNet's role."""

    counts = {"train": 24, "val": 4, "test": 4}


class EmojiVariant(TestOnly, EmojiScenes):
    """A set to test prompts on that were trained on Emoji; has all its classes that are drawn in these styles."""

    counts = {"test": 4}

    def read_annotations(self, rng: random.Random):
        items = self.listed("test")
        return items, None, items


@DATASET_REGISTRY.register()
class EmojiV2(EmojiVariant):
    """New scenes, a little harder, of the same drawings."""

    scene = Scene().softened(0.65)


@DATASET_REGISTRY.register()
class EmojiSketch(EmojiVariant):
    """Line drawings on white paper."""

    styles = ("fluent-line",)
    scene = Scene(pose=0.5, light=0, clutter=0, blur=0, noise=0.05)


@DATASET_REGISTRY.register()
class EmojiA(EmojiVariant):
    """Hard scenes: bent drawings in wrong colours, partly hidden."""

    scene = Scene(warp=0.04, recolour=0.5, hidden=0.3).softened(0.65)


@DATASET_REGISTRY.register()
class EmojiR(EmojiVariant):
    """Renditions: the drawings of other vendors, which ViT-Mini/8 was pretrained on."""

    styles = ("noto-v1", "twemoji", "emojione", "fxemoji")
