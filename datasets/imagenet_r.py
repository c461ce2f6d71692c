"""ImageNetR: 30,000 renditions of 200 classes (Hendrycks et al., ICCV 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download
from datasets.imagenet import CLASSNAMES, ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """A test set with 200 of ImageNet's classes. An image is classified among these 200 classes only."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    downloads = (Download("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar"), CLASSNAMES)
