"""ImageNetSketch: sketches of 1,000 classes (Wang et al., NeurIPS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """Has all of ImageNet's classes."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    by_hand = (
        "a ZIP archive is linked from github.com/HaohanWang/ImageNet-Sketch: unpack its class folders into images/; "
        "classnames.txt comes with: bash scripts/download.sh ImageNetSketch"
    )
