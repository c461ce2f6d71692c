"""ImageNetSketch: sketches of 1,000 classes (Wang et al., NeurIPS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """A test set with all 1,000 classes of ImageNet."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    by_hand = (
        "download the ZIP archive that github.com/HaohanWang/ImageNet-Sketch links to, and unpack its class folders "
        "into images/; to get classnames.txt, run bash scripts/download.sh ImageNetSketch"
    )
