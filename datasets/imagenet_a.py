"""ImageNetA: 7,500 photos that models misclassify, from 200 classes (Hendrycks et al., CVPR 2021)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Download
from datasets.imagenet import CLASSNAMES, ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """A test set with 200 of ImageNet's classes. An image is classified among these 200 classes only."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    downloads = (Download("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar"), CLASSNAMES)
