"""FGVCAircraft: 100 aircraft variants (Maji et al., 2013)."""

import os
import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Listed, Splits


@DATASET_REGISTRY.register()
class FGVCAircraft(FewShotDataset):
    """Train, val and test are the official splits. A class's label is its line number in variants.txt, from 0."""

    dataset_dir = "fgvc_aircraft"  # the archive calls this folder `data`
    image_dir = "images"
    needs = ("variants.txt", *(f"images_variant_{split}.txt" for split in ("train", "val", "test")))
    template = "a photo of a {}, a type of aircraft."
    metric = "mean_acc"
    downloads = (
        Download(
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            inside="fgvc-aircraft-2013b/data",
        ),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        with open(os.path.join(self.dataset_dir, "variants.txt"), encoding="utf-8") as file:
            labels = {line.strip(): number for number, line in enumerate(file)}
        train, val, test = (self._read(f"images_variant_{split}.txt", labels) for split in ("train", "val", "test"))
        return train, val, test

    def _read(self, name: str, labels: dict[str, int]) -> list[Listed]:
        """Return the images of a list file. Each line looks like "0034309 707-320" (image, variant).

        Variants may contain spaces.
        """
        items = []
        with open(os.path.join(self.dataset_dir, name), encoding="utf-8") as file:
            for line in file:
                image, _, variant = line.strip().partition(" ")
                items.append(Listed(os.path.join(self.image_dir, f"{image}.jpg"), labels[variant], variant))
        return items
