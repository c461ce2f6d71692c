"""DescribableTextures (DTD): 47 textures (Cimpoi et al., CVPR 2014)."""

import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, FewShotDataset, Splits, gdrive


@DATASET_REGISTRY.register()
class DescribableTextures(FewShotDataset):
    """Every class is split at random into 50 % train, 20 % val and 30 % test images.

    The official lists in labels/ aren't used.
    """

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."
    downloads = (
        Download(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            md5="fff73e5086ae6bdbea199a49dfb8a4c1",
            inside="dtd",
        ),
        Download(gdrive("1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"), split_file, entries=(2820, 1128, 1692)),
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        return self.read_and_split_data(self.image_dir, rng=rng)
