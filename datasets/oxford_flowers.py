"""OxfordFlowers: 102 species (Nilsback and Zisserman, 2008)."""

import os
import random

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_json
from datasets.base import Download, FewShotDataset, Listed, Splits, gdrive

_VGG = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"


@DATASET_REGISTRY.register()
class OxfordFlowers(FewShotDataset):
    """Every class is split at random into 50 % train, 20 % val and 30 % test images.

    The official setid.mat isn't used.
    """

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."
    metric = "mean_acc"
    downloads = (
        Download(f"{_VGG}/102flowers.tgz", md5="52808999861908f626f3c1f4e79d11fa"),
        Download(f"{_VGG}/imagelabels.mat", "imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        Download(gdrive("1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"), "cat_to_name.json"),
        Download(gdrive("1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"), split_file, entries=(4093, 1633, 2463)),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        from scipy.io import loadmat

        names = read_json(os.path.join(self.dataset_dir, "cat_to_name.json"))
        labels = loadmat(os.path.join(self.dataset_dir, "imagelabels.mat"))["labels"][0]  # (n_images,), labels from 1
        items = [
            Listed(os.path.join(self.image_dir, f"image_{number:05d}.jpg"), int(label) - 1, names[str(label)])
            for number, label in enumerate(labels, 1)
        ]
        return self.split_by_shares(items, rng=rng)
