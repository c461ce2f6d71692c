"""Somebody's own data: class folders, or a CSV or JSON list of paths and class names. No line of code needed."""

import csv
import os
import random
from pathlib import Path
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, read_json
from datasets.base import FewShotDataset, Listed, list_class_folders

#: What a folder or a list may call its splits.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@DATASET_REGISTRY.register()
class Folder(FewShotDataset):
    """What DATASET.PATH names, in one of these forms:

    * a folder of class folders, or a folder of train/, val/ (or validation/) and test/ with class folders in each;
    * a CSV with the columns path, class and, if the splits are given, split;
    * a JSON list of {"path": ..., "class": ..., "split": ...}, or a split file as the published data sets have it.

    Paths in a list are relative to its folder. Where no splits are given, 50 % of every class are drawn for training,
    20 % for validation and 30 % for test, by SEED. Where there is no test split, val serves as test. Class names are
    the folders' names; underscores become spaces in prompts. DATASET.TEMPLATE is the zero-shot prompt.
    """

    takes_path = True

    def locate(self, cfg: Any) -> str:
        if not cfg.DATASET.PATH:
            raise InputError("say where your data is: DATASET.PATH FOLDER (or a .csv or .json list)")
        self.path = os.path.abspath(os.path.expanduser(cfg.DATASET.PATH))
        return self.path if os.path.isdir(self.path) else os.path.dirname(self.path)

    def check_present(self) -> None:
        if not os.path.exists(self.path):
            raise InputError(f"no {self.path} (DATASET.PATH)")

    def read_annotations(self, rng: random.Random):
        if os.path.isdir(self.path):
            splits = _from_folder(self.path)
        elif self.path.endswith(".csv"):
            splits = _from_rows(_read_csv(self.path), self.path)
        elif self.path.endswith(".json"):
            content = read_json(self.path)
            if isinstance(content, dict):
                return self.read_split(self.path, os.path.dirname(self.path))
            if not isinstance(content, list):
                raise InputError(f"{self.path} is neither a list of entries nor a split file")
            splits = _from_rows(content, self.path)
        else:
            raise InputError(f"{self.path} (DATASET.PATH) is neither a folder nor a .csv or .json list")
        if list(splits) == [""]:
            return self.split_by_shares(splits[""], rng=rng)
        if "test" not in splits:
            print(f"{self.path} has no test split: testing on its val split")
        val, test = splits.get("val"), splits.get("test") or splits.get("val")
        if "train" not in splits or test is None:
            raise InputError(f"{self.path} needs a train split and a test or val split; it has: {', '.join(splits)}")
        return splits["train"], val, test


def _split_name(name: str) -> str:
    """train, val or test for what somebody calls it; empty for anything else."""
    return next((split for split, names in _SPLITS.items() if name.lower() in names), "")


def _from_folder(path: str) -> dict[str, list[Listed]]:
    """Items by split; under "" where the folder holds classes at once."""
    folders = sorted(child.name for child in Path(path).iterdir() if child.is_dir() and not child.name.startswith("."))
    if not folders:
        raise InputError(f"{path} (DATASET.PATH) has no class folders")
    splits_there = [name for name in folders if _split_name(name) and _has_folders(os.path.join(path, name))]
    if "train" not in map(_split_name, splits_there):
        return {"": list_class_folders(path)}
    if len(set(map(_split_name, splits_there))) < len(splits_there):
        raise InputError(f"{path} has two folders for one split: {', '.join(splits_there)}")
    splits = {_split_name(name): list_class_folders(os.path.join(path, name)) for name in splits_there}
    return _same_labels(splits, path)


def _has_folders(path: str) -> bool:
    return any(child.is_dir() for child in Path(path).iterdir())


def _from_rows(rows: list[dict[str, Any]], path: str) -> dict[str, list[Listed]]:
    """Items by split out of rows with path, class and perhaps split."""
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
            raise InputError(f"{path}, entry {number}: {image} is there twice")
        seen.add(image)
        item = Listed(os.path.join(os.path.dirname(path), image), 0, classname)
        splits.setdefault(_split_name(split), []).append(item)
    if not rows or ("" in splits and len(splits) > 1):
        raise InputError(f"{path}: {'no entries' if not rows else 'some entries have a split and some have none'}")
    return _same_labels(splits, path)


def _same_labels(splits: dict[str, list[Listed]], path: str) -> dict[str, list[Listed]]:
    """Labels by sorted class name, the same in every split. Every class must have training images."""
    everywhere = {item.classname for items in splits.values() for item in items}
    for_training = {item.classname for item in splits.get("train", splits.get("", []))}
    if everywhere - for_training:
        raise InputError(f"{path}: no training images for the class {sorted(everywhere - for_training)[0]!r}")
    labels = {name: label for label, name in enumerate(sorted(everywhere))}
    return {split: [item._replace(label=labels[item.classname]) for item in items] for split, items in splits.items()}


def _read_csv(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV in UTF-8: {error}") from error
    return [{str(key).strip().lower(): value for key, value in row.items()} for row in rows]
