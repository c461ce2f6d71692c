"""ImageNetA: 7,500 photos that models misclassify, from 200 classes (Hendrycks et al., CVPR 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download
from datasets.imagenet import CLASSNAMES, ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """Images are classified among 200 classes only, not among ImageNet's 1,000."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    downloads = (Download("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar"), CLASSNAMES)
