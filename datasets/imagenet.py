"""ImageNet: 1,000 classes (Deng et al., CVPR 2009), with CLIP's class names."""

import os
import random
from collections import OrderedDict
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, listdir_nohidden
from datasets.base import Download, FewShotDataset, Listed, Splits, TestOnly, gdrive, list_class_folders

CLASSNAMES = Download(gdrive("1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"), "classnames.txt")


class ImageNetFolders(FewShotDataset):
    """Class folders named by WordNet ids. classnames.txt holds their class names."""

    needs: tuple[str, ...] = ("classnames.txt",)
    downloads: tuple[Download, ...] = (CLASSNAMES,)

    @staticmethod
    def read_classnames(text_file: str) -> OrderedDict[str, str]:
        """Return {folder: class name} in the order of the file, whose lines are like "n01440764 tench"."""
        names = OrderedDict()
        with open(text_file) as file:
            for line in file:
                folder, _, name = line.strip().partition(" ")
                names[folder] = name
        return names

    def classnames_by_folder(self) -> OrderedDict[str, str]:
        """Return `read_classnames` of classnames.txt in this data set's folder."""
        return self.read_classnames(os.path.join(self.dataset_dir, "classnames.txt"))

    def list_folders(self, folder: str) -> list[Listed]:
        """Return all images in the class folders of `folder`. Labels follow the sorted folder names.

        Raises:
            InputError: if a folder isn't listed in classnames.txt.
        """
        names = self.classnames_by_folder()
        unlisted = [name for name in listdir_nohidden(folder) if name not in names and (Path(folder) / name).is_dir()]
        if unlisted:
            raise InputError(f"{folder}/{unlisted[0]} is not a class in {self.dataset_dir}/classnames.txt")
        return list_class_folders(folder, new_cnames=names)


@DATASET_REGISTRY.register()
class ImageNet(ImageNetFolders):
    """Uses the official validation set as both val and test, so `best_val` would choose a model on the test images."""

    dataset_dir = "imagenet"
    image_dir = "images"
    needs = ("images/train", "images/val", "classnames.txt")
    by_hand = (
        "download the images from image-net.org (ILSVRC 2012), after registration: class folders n01440764 ... "
        "in images/train and images/val; classnames.txt comes with: bash scripts/download.sh ImageNet"
    )
    fewshot_val = False

    def read_annotations(self, rng: random.Random) -> Splits:
        train, test = (self.list_folders(os.path.join(self.image_dir, split)) for split in ("train", "val"))
        only_one = {item.classname for item in train} ^ {item.classname for item in test}
        if only_one:
            raise InputError(
                f"{self.image_dir}: train/ and val/ must have the same classes; only one of them has {min(only_one)!r}"
            )
        return train, test, test


class ImageNetVariant(TestOnly, ImageNetFolders):
    """A test set with all or some of ImageNet's classes."""

    def read_annotations(self, rng: random.Random) -> Splits:
        items = self.list_folders(self.image_dir)
        return items, None, items
