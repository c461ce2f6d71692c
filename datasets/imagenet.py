"""ImageNet: 1,000 classes (Deng et al., CVPR 2009), with CLIP's class names."""

import os
import random
from collections import OrderedDict
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, listdir_nohidden
from datasets.base import Download, FewShotDataset, Listed, TestOnly, gdrive, list_class_folders

CLASSNAMES = Download(gdrive("1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"), "classnames.txt")


class ImageNetFolders(FewShotDataset):
    """Folders named by WordNet ids, whose names are in classnames.txt."""

    needs: tuple[str, ...] = ("classnames.txt",)
    downloads: tuple[Download, ...] = (CLASSNAMES,)

    @staticmethod
    def read_classnames(text_file: str) -> OrderedDict[str, str]:
        """folder -> class name, in the file's order; lines "n01440764 tench"."""
        names = OrderedDict()
        with open(text_file) as file:
            for line in file:
                folder, _, name = line.strip().partition(" ")
                names[folder] = name
        return names

    def classnames_by_folder(self) -> OrderedDict[str, str]:
        """`read_classnames` of this data set's own file."""
        return self.read_classnames(os.path.join(self.dataset_dir, "classnames.txt"))

    def list_folders(self, folder: str) -> list[Listed]:
        """All images of the class folders in `folder`; labels by sorted folder name."""
        names = self.classnames_by_folder()
        strange = [name for name in listdir_nohidden(folder) if name not in names and (Path(folder) / name).is_dir()]
        if strange:
            raise InputError(f"{folder}/{strange[0]} is no class of {self.dataset_dir}/classnames.txt")
        return list_class_folders(folder, new_cnames=names)


@DATASET_REGISTRY.register()
class ImageNet(ImageNetFolders):
    """The official validation set is both val and test here, so `best_val` would choose on the test images."""

    dataset_dir = "imagenet"
    image_dir = "images"
    needs = ("images/train", "images/val", "classnames.txt")
    by_hand = (
        "the images are to be had, after registration, from image-net.org (ILSVRC 2012): class folders n01440764 ... "
        "in images/train and images/val; classnames.txt comes with: bash scripts/download.sh ImageNet"
    )
    fewshot_val = False

    def read_annotations(self, rng: random.Random):
        train, test = (self.list_folders(os.path.join(self.image_dir, split)) for split in ("train", "val"))
        only_one = {item.classname for item in train} ^ {item.classname for item in test}
        if only_one:
            raise InputError(f"{self.image_dir}: train/ and val/ must have the same classes; not so {min(only_one)!r}")
        return train, test, test


class ImageNetVariant(TestOnly, ImageNetFolders):
    """A set to test on, of ImageNet's classes or some of them."""

    def read_annotations(self, rng: random.Random):
        items = self.list_folders(self.image_dir)
        return items, None, items
