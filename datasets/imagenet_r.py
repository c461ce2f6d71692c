"""ImageNetR: 30,000 renditions of 200 classes (Hendrycks et al., ICCV 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download
from datasets.imagenet import CLASSNAMES, ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """Images are classified among 200 classes only, not among ImageNet's 1,000."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    downloads = (Download("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar"), CLASSNAMES)
