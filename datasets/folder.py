"""A user's own data, without a line of code: class folders, or a CSV or JSON list of paths and class names.

configs/datasets/folder.yaml selects this data set, and DATASET.PATH names the folder or the list.
"""

import csv
import os
import random
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, read_json
from datasets.base import FewShotDataset, Listed, Splits, list_class_folders

#: A row of a list: column name -> value, not checked yet.
Row = dict[str, object]
#: Names that a folder or a list may use for its splits.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """The images of DATASET.PATH, which has one of these forms:

    * a folder of class folders;
    * a folder of train/, val/ (or validation/) and test/, each with class folders;
    * a CSV with the columns path and class, and optionally split;
    * a JSON list of {"path": ..., "class": ..., "split": ...}, or a published split file.

    Paths in a list are relative to its folder. Without splits, SEED draws 50 % of every class for training, 20 % for
    val and 30 % for test. Without a test split, val is the test set. Class names are the folder names, and prompts
    replace their underscores by spaces. DATASET.TEMPLATE is the zero-shot prompt.

    Raises:
        InputError: if the folder or the list is missing, empty or contradictory. The message names the entry.
    """

    takes_path = True

    def locate(self, cfg: CfgNode) -> str:
        if not cfg.DATASET.PATH:
            raise InputError("DATASET.PATH is empty: set it to the folder of your data, or to a .csv or .json list")
        self.path = os.path.abspath(os.path.expanduser(cfg.DATASET.PATH))
        return self.path if os.path.isdir(self.path) else os.path.dirname(self.path)

    def check_present(self) -> None:
        if not os.path.exists(self.path):
            raise InputError(f"no {self.path} (DATASET.PATH)")

    def read_annotations(self, rng: random.Random) -> Splits:
        if os.path.isdir(self.path):
            splits = _from_folder(self.path)
        elif self.path.endswith(".csv"):
            splits = _from_rows(_read_csv(self.path), self.path)
        elif self.path.endswith(".json"):
            content = read_json(self.path)
            if isinstance(content, dict):
                return self.read_split(self.path, os.path.dirname(self.path))
            if not isinstance(content, list):
                raise InputError(f"{self.path} must hold a list of entries or a split file")
            splits = _from_rows(content, self.path)
        else:
            raise InputError(f"{self.path} (DATASET.PATH) must be a folder, or a .csv or .json list")
        if list(splits) == [""]:
            return self.split_by_shares(splits[""], rng=rng)
        if "test" not in splits:
            print(f"{self.path} has no test split: using its val split as the test set")
        val, test = splits.get("val"), splits.get("test") or splits.get("val")
        if "train" not in splits or test is None:
            raise InputError(f"{self.path} needs a train split and a test or val split; it has: {', '.join(splits)}")
        return splits["train"], val, test


def _split_name(name: str) -> str:
    """Return train, val or test for the name of a split in the data, or an empty text for any other name."""
    return next((split for split, names in _SPLITS.items() if name.lower() in names), "")


def _from_folder(path: str) -> dict[str, list[Listed]]:
    """Return images by split. The split is "" if the class folders are directly in `path`."""
    folders = sorted(child.name for child in Path(path).iterdir() if child.is_dir() and not child.name.startswith("."))
    if not folders:
        raise InputError(f"{path} (DATASET.PATH) has no class folders")
    split_folders = [name for name in folders if _split_name(name) and _has_folders(os.path.join(path, name))]
    if "train" not in map(_split_name, split_folders):
        return {"": list_class_folders(path)}
    if len(set(map(_split_name, split_folders))) < len(split_folders):
        raise InputError(f"{path} has two folders for one split: {', '.join(split_folders)}")
    splits = {_split_name(name): list_class_folders(os.path.join(path, name)) for name in split_folders}
    return _same_labels(splits, path)


def _has_folders(path: str) -> bool:
    return any(child.is_dir() for child in Path(path).iterdir())


def _from_rows(rows: list[Row], path: str) -> dict[str, list[Listed]]:
    """Return images by split, from rows with the keys path, class and optionally split (else the split is "")."""
    splits: dict[str, list[Listed]] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        image, classname, split = (
            row.get(key) if isinstance(row, dict) else None for key in ("path", "class", "split")
        )
        if image in (None, "") or classname in (None, ""):
            raise InputError(f"{path}, entry {number}: needs path and class, has {row}")
        image, classname, split = str(image), str(classname), str(split or "")
        if split and not _split_name(split):
            raise InputError(f"{path}, entry {number}: split must be train, val or test, not {split!r}")
        if image in seen:
            raise InputError(f"{path}, entry {number}: {image} is listed twice")
        seen.add(image)
        item = Listed(os.path.join(os.path.dirname(path), image), 0, classname)
        splits.setdefault(_split_name(split), []).append(item)
    if not rows or ("" in splits and len(splits) > 1):
        raise InputError(f"{path}: {'no entries' if not rows else 'some entries have a split, others have none'}")
    return _same_labels(splits, path)


def _same_labels(splits: dict[str, list[Listed]], path: str) -> dict[str, list[Listed]]:
    """Number the classes by sorted name, the same in every split. Every class must have training images."""
    names = {item.classname for items in splits.values() for item in items}
    with_training = {item.classname for item in splits.get("train", splits.get("", []))}
    if names - with_training:
        raise InputError(f"{path}: no training images for the class {sorted(names - with_training)[0]!r}")
    labels = {name: label for label, name in enumerate(sorted(names))}
    return {split: [item._replace(label=labels[item.classname]) for item in items] for split, items in splits.items()}


def _read_csv(path: str) -> list[Row]:
    """Return the rows of a CSV, with column names in lower case."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} isn't a CSV in UTF-8: {error}") from error
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]
