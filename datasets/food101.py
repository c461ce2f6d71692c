"""Food101: 101 dishes (Bossard et al., ECCV 2014)."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Splits, gdrive


@DATASET_REGISTRY.register()
class Food101(FewShotDataset):
    """Every class is split at random into 50 % train, 20 % val and 30 % test images.

    The official lists in meta/ aren't used.
    """

    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."  # as published, without "a" before {}
    downloads = (
        Download(
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            md5="85eeb15f3717b99a5da872d97d918f87",
            inside="food-101",
        ),
        Download(gdrive("1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"), split_file, entries=(50500, 20200, 30300)),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.read_and_split_data(self.image_dir, rng=rng)
