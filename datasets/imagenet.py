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
    """Base class of data sets whose class folders have WordNet ids as names. classnames.txt holds the class names."""

    needs: tuple[str, ...] = ("classnames.txt",)
    downloads: tuple[Download, ...] = (CLASSNAMES,)

    @staticmethod
    def read_classnames(text_file: str) -> OrderedDict[str, str]:
        """Return {folder: class name} in the order of the file. Each line looks like "n01440764 tench"."""
        names = OrderedDict()
        with open(text_file, encoding="utf-8") as file:
            for line in file:
                folder, _, name = line.strip().partition(" ")
                names[folder] = name
        return names

    def classnames_by_folder(self) -> OrderedDict[str, str]:
        """Return {folder: class name}, read from classnames.txt in this data set's folder."""
        return self.read_classnames(os.path.join(self.dataset_dir, "classnames.txt"))

    def list_folders(self, folder: str) -> list[Listed]:
        """Return all images in the class folders of `folder`. Labels start at 0 and follow the sorted folder names.

        Raises:
            InputError: if a folder isn't listed in classnames.txt.
        """
        names = self.classnames_by_folder()
        unlisted = [name for name in listdir_nohidden(folder) if name not in names and (Path(folder) / name).is_dir()]
        if unlisted:
            raise InputError(f"{folder}/{unlisted[0]} isn't listed in {self.dataset_dir}/classnames.txt")
        return list_class_folders(folder, new_cnames=names)


@DATASET_REGISTRY.register()
class ImageNet(ImageNetFolders):
    """The official validation set is used as val and as test.

    So TEST.FINAL_MODEL best_val would select the checkpoint by its test accuracy.
    """

    dataset_dir = "imagenet"
    image_dir = "images"
    needs = ("images/train", "images/val", "classnames.txt")
    by_hand = (
        "register at image-net.org, download the images of ILSVRC 2012, and put the class folders (n01440764 ...) "
        "into images/train and images/val; to get classnames.txt, run bash scripts/download.sh ImageNet"
    )
    fewshot_val = False

    def read_annotations(self, rng: random.Random) -> Splits:
        train, test = (self.list_folders(os.path.join(self.image_dir, split)) for split in ("train", "val"))
        only_one = {item.classname for item in train} ^ {item.classname for item in test}
        if only_one:
            raise InputError(
                f"{self.image_dir}: train/ and val/ must have the same classes, but one of them lacks {min(only_one)!r}"
            )
        return train, test, test


class ImageNetVariant(TestOnly, ImageNetFolders):
    """Base class of test sets that have all or some of ImageNet's classes."""

    def read_annotations(self, rng: random.Random) -> Splits:
        items = self.list_folders(self.image_dir)
        return items, None, items
