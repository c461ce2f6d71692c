"""ImageNetV2: new test images for ImageNet's classes (Recht et al., ICML 2019)."""

import os
import random

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download, Listed, Splits, list_images
from datasets.imagenet import CLASSNAMES, ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    """Class folders are named 0 to 999. Line i of classnames.txt, counted from 0, holds the class name of folder i."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    downloads = (
        Download(
            "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz"
        ),
        CLASSNAMES,
    )

    def read_annotations(self, rng: random.Random) -> Splits:
        items = []
        for label, name in enumerate(self.classnames_by_folder().values()):
            folder = os.path.join(self.image_dir, str(label))
            items += [Listed(path, label, name) for path in list_images(folder)]
        return items, None, items
