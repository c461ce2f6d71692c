"""The data set for a user's own images. It reads class folders, or a CSV or JSON list of paths and class names.

configs/datasets/folder.yaml selects this data set. DATASET.PATH is the path of the folder or of the list.
"""

import os
import random
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError
from datasets._lists import Row, file_path, read_rows
from datasets.base import FewShotDataset, Listed, Splits, list_class_folders

#: {split: names that folders and lists may use for the split}.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """A user's own images. DATASET.PATH is the path of one of these:

    * a folder with one subfolder per class;
    * a folder with train/, val/ (or validation/) and test/, each of which has one subfolder per class;
    * a CSV with the columns path and class, and optionally split;
    * a JSON list of {"path": ..., "class": ..., "split": ...};
    * a published split file (JSON).

    Paths in a list are relative to the list's folder. If the data set has no splits, every class is split at random
    into 50 % train, 20 % val and 30 % test images, with SEED as the seed. If only the test split is missing, the val
    split is also used as the test set. The name of a class folder is the class name. In prompts, underscores in class
    names become spaces. DATASET.TEMPLATE is the zero-shot prompt.

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
        if os.path.isdir(self.path):
            splits = _from_folder(self.path)
        elif self.path.endswith(".json") and _is_object(self.path):
            return self.read_split(self.path, os.path.dirname(self.path))
        elif self.path.endswith((".csv", ".json")):
            splits = _from_rows(read_rows(self.path), self.path)
        else:
            raise InputError(f"{self.path} (DATASET.PATH) must be a folder, or a .csv or .json file")
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


def _split_name(name: str) -> str:
    """Return the split ("train", "val" or "test") that a folder or list calls `name`. Returns "" for other names."""
    return next((split for split, names in _SPLITS.items() if name.lower() in names), "")


def _from_folder(path: str) -> dict[str, list[Listed]]:
    """Return {split: images} of a folder. If the class folders are directly in `path`, the only split is ""."""
    folders = sorted(child.name for child in Path(path).iterdir() if child.is_dir() and not child.name.startswith("."))
    if not folders:
        raise InputError(f"{path} (DATASET.PATH) has no class folders")
    split_folders = [name for name in folders if _split_name(name) and _has_folders(os.path.join(path, name))]
    if "train" not in map(_split_name, split_folders):
        return {"": list_class_folders(path)}
    if len(set(map(_split_name, split_folders))) < len(split_folders):
        raise InputError(
            f"{path} has two folders for the same split. The folders of splits are: {', '.join(split_folders)}"
        )
    splits = {_split_name(name): list_class_folders(os.path.join(path, name)) for name in split_folders}
    return _same_labels(splits, path)


def _is_object(path: str) -> bool:
    """Return whether a JSON file holds an object, as a split file does, and not a list."""
    with open(path, "rb") as file:
        return file.read(1000).lstrip().startswith(b"{")


def _has_folders(path: str) -> bool:
    return any(child.is_dir() for child in Path(path).iterdir())


def _from_rows(rows: list[Row], path: str) -> dict[str, list[Listed]]:
    """Return {split: images} of the rows of a list. The images of rows without a split have the key ""."""
    splits: dict[str, list[Listed]] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        image, classname, split = str(row.path), str(row.classname), row.split or ""
        if split and not _split_name(split):
            raise InputError(f"{path}, entry {number}: split must be train, val or test, not {split!r}")
        if image in seen:
            raise InputError(f"{path}, entry {number}: {image} is listed twice")
        seen.add(image)
        item = Listed(os.path.join(os.path.dirname(path), file_path(image)), 0, classname)
        splits.setdefault(_split_name(split), []).append(item)
    if not rows or ("" in splits and len(splits) > 1):
        raise InputError(
            f"{path}: {'the list is empty' if not rows else 'some entries have a split, others have no split'}"
        )
    return _same_labels(splits, path)


def _same_labels(splits: dict[str, list[Listed]], path: str) -> dict[str, list[Listed]]:
    """Return the images with new labels. A class has the same label in all splits.

    Labels start at 0 and follow the sorted class names.

    Raises:
        InputError: if a class has no training images.
    """
    names = {item.classname for items in splits.values() for item in items}
    with_training = {item.classname for item in splits.get("train", splits.get("", []))}
    if names - with_training:
        raise InputError(f"{path}: no training images for the class {sorted(names - with_training)[0]!r}")
    labels = {name: label for label, name in enumerate(sorted(names))}
    return {split: [item._replace(label=labels[item.classname]) for item in items] for split, items in splits.items()}
