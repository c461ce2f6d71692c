"""Caltech101: 100 classes of objects (Fei-Fei et al., 2004)."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Splits, gdrive


@DATASET_REGISTRY.register()
class Caltech101(FewShotDataset):
    """Caltech101 without the classes in `ignored`. Labels follow the sorted folder names, capital letters first."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    metric = "mean_acc"
    downloads = (
        Download(
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            md5="3138e1922a9193bfa496528edbbc45d0",
            inside="caltech-101",
            inner="101_ObjectCategories.tar.gz",
        ),
        Download(gdrive("1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"), split_file, entries=(4128, 1649, 2465)),
    )
    ignored = ("BACKGROUND_Google", "Faces_easy")
    new_cnames = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.read_and_split_data(self.image_dir, ignored=self.ignored, new_cnames=self.new_cnames, rng=rng)
