"""The data set for a user's own images. It reads class folders, or a CSV or JSON list of paths and class names.

configs/datasets/folder.yaml selects this data set. DATASET.PATH is the path of the folder or of the list.
"""

import os
import random
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError
from datasets._images import Listed, list_class_folders
from datasets._lists import read_rows
from datasets._own_checks import describe
from datasets._own_lists import METADATA, from_metadata, from_rows, same_labels, split_name
from datasets._own_lists import Splits as NamedSplits
from datasets.base import FewShotDataset, Splits


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """A user's own images. DATASET.PATH is the path of one of these:

    * a folder with one subfolder per class;
    * a folder with train/, val/ (or validation/) and test/, each of which has one subfolder per class;
    * a folder with a metadata.csv, or whose train/, val/ and test/ have one (Hugging Face's `imagefolder`);
    * a CSV with the columns path and class, and optionally split (`_lists.COLUMNS` lists other names of the columns);
    * a JSON list of {"path": ..., "class": ..., "split": ...};
    * a published split file (JSON).

    Paths in a list are relative to the list's folder. If the data set has no splits, every class is split at random
    into 50 % train, 20 % val and 30 % test images, with SEED as the seed. If only the test split is missing, the val
    split is also used as the test set. The name of a class folder is the class name, and the folder may have
    subfolders. In prompts, underscores in class names become spaces. DATASET.TEMPLATE is the zero-shot prompt.

    Raises:
        InputError: if the folder or the list is missing, empty or wrong. The message names the wrong entry.
    """

    takes_path = True

    def locate(self, cfg: CfgNode) -> str:
        if not cfg.DATASET.PATH:
            raise InputError("DATASET.PATH is empty: set it to the folder of your images, or to a .csv or .json list")
        self.path = os.path.abspath(os.path.expanduser(cfg.DATASET.PATH))
        return self.path if os.path.isdir(self.path) else os.path.dirname(self.path)

    def check_present(self) -> None:
        if not os.path.exists(self.path):
            raise InputError(f"{self.path} (DATASET.PATH) doesn't exist")

    def read_annotations(self, rng: random.Random) -> Splits:
        train, val, test = self._split(rng)
        describe(train, val, test, self.dataset_dir)
        return train, val, test

    def _split(self, rng: random.Random) -> Splits:
        """Return the train, val and test images of the folder or list."""
        if os.path.isdir(self.path):
            splits = _from_folder(self.path)
        elif self.path.endswith(".json") and _is_object(self.path):
            return self.read_split(self.path, os.path.dirname(self.path))
        elif self.path.endswith((".csv", ".json")):
            splits = from_rows(read_rows(self.path), self.path)
        else:
            raise InputError(f"{self.path} (DATASET.PATH) must be a folder, or a .csv or .json file")
        splits = same_labels(splits, self.path)
        if list(splits) == [""]:
            return self.split_by_shares(splits[""], rng=rng)
        if "test" not in splits:
            print(f"{self.path} has no test split, so its val split is used as the test set")
        val, test = splits.get("val"), splits.get("test") or splits.get("val")
        if "train" not in splits or test is None:
            raise InputError(
                f"{self.path} needs a train split, and a test or val split. Its splits are: {', '.join(splits)}"
            )
        return splits["train"], val, test


def _from_folder(path: str) -> NamedSplits:
    """Return {split: images} of a folder. If the class folders are directly in `path`, the only split is ""."""
    if os.path.isfile(os.path.join(path, METADATA)):
        return from_metadata(path)
    folders = sorted(child.name for child in Path(path).iterdir() if child.is_dir() and not child.name.startswith("."))
    if not folders:
        raise InputError(f"{path} (DATASET.PATH) has no class folders")
    split_folders = [name for name in folders if split_name(name) and _holds_split(os.path.join(path, name))]
    if "train" not in map(split_name, split_folders):
        return {"": list_class_folders(path, nested=True)}
    if len(set(map(split_name, split_folders))) < len(split_folders):
        raise InputError(
            f"{path} has two folders for the same split. The folders of splits are: {', '.join(split_folders)}"
        )
    return {split_name(name): _images_of_split(os.path.join(path, name)) for name in split_folders}


def _is_object(path: str) -> bool:
    """Return whether a JSON file holds an object, as a split file does, and not a list."""
    with open(path, "rb") as file:
        return file.read(1000).lstrip().startswith(b"{")


def _holds_split(path: str) -> bool:
    """Return whether the folder of a split has class folders or a metadata.csv."""
    return os.path.isfile(os.path.join(path, METADATA)) or any(child.is_dir() for child in Path(path).iterdir())


def _images_of_split(path: str) -> list[Listed]:
    """Return the images in the folder of a split. If it has a metadata.csv, this file gives the class names."""
    if not os.path.isfile(os.path.join(path, METADATA)):
        return list_class_folders(path, nested=True)
    splits = from_rows(read_rows(os.path.join(path, METADATA)), os.path.join(path, METADATA))
    return [item for items in splits.values() for item in items]
