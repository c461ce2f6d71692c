"""OxfordPets: 37 breeds of cats and dogs (Parkhi et al., CVPR 2012)."""

import os
import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Listed, Splits, gdrive

_VGG = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"


@DATASET_REGISTRY.register()
class OxfordPets(FewShotDataset):
    """The class name of an image is its file name without the number, in lower case."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."
    metric = "mean_acc"
    downloads = (
        Download(f"{_VGG}/images.tar.gz", md5="5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        Download(f"{_VGG}/annotations.tar.gz", md5="95a8c909bbe2e81eed6a22bccdf3f68f"),
        Download(gdrive("1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"), split_file, entries=(2944, 736, 3669)),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        train, val = self.split_trainval(self._read_list("trainval.txt"), rng=rng)
        return train, val, self._read_list("test.txt")

    def _read_list(self, name: str) -> list[Listed]:
        """Return the images of a list file. Each line holds "image label species breed". The labels start at 1."""
        items = []
        with open(os.path.join(self.dataset_dir, "annotations", name), encoding="utf-8") as file:
            for line in file:
                image, label, *_ = line.split()
                breed = image.rpartition("_")[0].lower()
                items.append(Listed(os.path.join(self.image_dir, f"{image}.jpg"), int(label) - 1, breed))
        return items
