"""What all data sets share: split files, few-shot picks, base and new classes, and errors that say what is missing."""

import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import InputError, listdir_nohidden, read_json, unknown, write_json
from dassl.utils.unpickle import read_pickle

Rng = random.Random | ModuleType


class Listed(NamedTuple):
    """An image that was seen in a folder listing; becomes a `Datum` when it is picked."""

    impath: str
    label: int
    classname: str


class Download(NamedTuple):
    """A file to fetch, for `scripts/download.sh`: an archive to unpack, or a file that is kept as `target`."""

    url: str
    target: str = ""  # name below the data set's folder; empty: an archive
    md5: str = ""
    inside: str = ""  # folder in the archive whose contents are the data set's folder's
    inner: str = ""  # archive that was in the archive
    filename: str = ""  # the archive's name, where the address doesn't end in it
    entries: tuple[int, int, int] | None = None  # train, val and test images that a split file must list


def gdrive(file_id: str) -> str:
    """Address of a file on Google Drive."""
    return f"https://drive.google.com/uc?id={file_id}"


class FewShotDataset(DatasetBase):
    """A data set in the layout that CoOp's DATASETS.md prescribes.

    A subclass says where its files are, and defines `read_annotations` for when there is no split file. Few-shot picks
    are those of the original code for the same seed and split file: class by class in order of first appearance, train
    before val, at most 4 a class for val, drawn before base or new classes are chosen.
    """

    takes_path = False  # whether DATASET.PATH says where it is
    image_dir = ""  # images, below dataset_dir
    split_file = ""  # published split, below dataset_dir; empty: there is none
    needs: Sequence[str] = ()  # files and folders that must be there (below dataset_dir) beside image_dir
    downloads: Sequence[Download] = ()
    by_hand = ""  # what can't be downloaded, and where it is to be had
    metric = "overall_acc"  # or mean_acc, over classes: the score as one of several tasks
    xd_source = "imagenet"  # config of the data set whose prompts are tested on this one across data sets
    fewshot_val = True  # whether val, too, is cut to a few shots

    def __init__(self, cfg: Any):
        kind = type(self)
        if cfg.DATASET.PATH and not kind.takes_path:
            raise InputError(
                f"DATASET.PATH is for one's own data, configs/datasets/folder.yaml, not for {kind.__name__}"
            )
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = self.locate(cfg)
        self.image_dir = os.path.join(self.dataset_dir, kind.image_dir)
        self.check_present()
        self.split_path = os.path.join(self.dataset_dir, kind.split_file)
        if kind.split_file and os.path.isfile(self.split_path):
            splits: tuple[list, list | None, list] = self.read_split(self.split_path, self.image_dir)
        else:
            try:
                splits = self.read_annotations(random.Random(max(cfg.SEED, 0)))
            except FileNotFoundError as error:
                how = f"or {kind.split_file}, which bash scripts/download.sh {kind.__name__} fetches"
                raise InputError(f"{kind.__name__}: no {error.filename}, {how}") from error
            if kind.split_file:
                print(
                    f"{self.split_path} is not there: drew a split by seed {max(cfg.SEED, 0)}. Published numbers "
                    f"are on that file's; get it with: bash scripts/download.sh {kind.__name__}"
                )
        super().__init__(**self.select(cfg, *splits))

    def locate(self, cfg: Any) -> str:
        """The data set's folder."""
        return os.path.join(self.root, type(self).dataset_dir)

    def read_annotations(self, rng: random.Random) -> tuple[list, list | None, list]:
        """Train, val and test from the raw files; what is drawn is drawn by `rng`."""
        raise TypeError(f"{type(self).__name__} must define read_annotations")

    def check_present(self) -> None:
        """Raise InputError where the data isn't; says what is looked for, where, and how to get it."""
        kind = type(self)
        wanted = [self.image_dir, *(os.path.join(self.dataset_dir, need) for need in kind.needs)]
        missing = [path for path in wanted if not os.path.exists(path)]
        if missing:
            contents = ", ".join(filter(None, (kind.image_dir and kind.image_dir + "/", kind.split_file, *kind.needs)))
            how = kind.by_hand or f"get it with: bash scripts/download.sh {kind.__name__}"
            raise InputError(
                f"{kind.__name__}: no {missing[0]}. DATASET.ROOT (--root, DATA) is {self.root}; "
                f"{kind.dataset_dir}/ below it must hold {contents}; {how}"
            )

    def select(self, cfg: Any, train: list, val: list | None, test: list) -> dict[str, list | None]:
        """The items that the config asks for: few shots, base or new classes."""
        shots, picks = cfg.DATASET.NUM_SHOTS, cfg.DATASET.FEWSHOT_FILE
        rng: Rng = random.Random(cfg.SEED) if cfg.SEED >= 0 else random
        _check_classes(train, val or [], test)
        if shots >= 1 and not picks:
            train = self.generate_fewshot_dataset(train, num_shots=shots, rng=rng)
            if val and self.fewshot_val:
                val = self.generate_fewshot_dataset(val, num_shots=min(shots, 4), rng=rng)
        lists = self.subsample_classes(train, val or [], test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        train, val, test = (as_data(items) for items in lists)
        if not test:
            raise InputError(f"{type(self).__name__} has no images to test on in {self.dataset_dir}")
        if picks:
            part = cfg.DATASET.SUBSAMPLE_CLASSES != "all"
            train, val = _picked(picks, train, "train", part), _picked(picks, val, "val", part) or val
        return {"train_x": train, "val": val or None, "test": test}

    # ---- shared by data sets, and called across classes by third-party ones ----

    @staticmethod
    def read_split(filepath: str, path_prefix: str) -> tuple[list[Datum], list[Datum], list[Datum]]:
        """Train, val and test of a split file {"train": [[path, label, class name], ...], "val": ..., "test": ...}.

        Raises:
            InputError: the file is no such thing, or lists images that aren't below `path_prefix`.
        """
        print(f"Reading split from {filepath}")
        content = read_json(filepath)
        try:
            splits = [
                [Listed(os.path.join(path_prefix, path), int(label), str(name)) for path, label, name in content[split]]
                for split in ("train", "val", "test")
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{filepath} is no split file with train, val and test: {error!r}") from error
        listed = [item.impath for items in splits for item in items]
        missing = [path for path in listed if not os.path.isfile(path)]
        if missing:
            raise InputError(f"{filepath} lists {missing[0]}: {len(missing)} of {len(listed)} images are not there")
        return tuple(as_data(items) for items in splits)  # type: ignore[return-value]

    @staticmethod
    def save_split(train: list, val: list, test: list, filepath: str, path_prefix: str) -> None:
        """Write a split file, with paths relative to `path_prefix`."""
        splits = {
            name: [[os.path.relpath(item.impath, path_prefix), item.label, item.classname] for item in items]
            for name, items in (("train", train), ("val", val), ("test", test))
        }
        write_json(splits, filepath)
        print(f"Saved split to {filepath}")

    @staticmethod
    def split_trainval(trainval: list, p_val: float = 0.2, rng: Rng = random) -> tuple[list, list]:
        """A share `p_val` of every class for validation, the rest for training."""
        train, val = [], []
        for items in DatasetBase.split_dataset_by_label(trainval).values():
            order = list(items)
            rng.shuffle(order)
            cut = round(len(order) * p_val)
            val.extend(order[:cut])
            train.extend(order[cut:])
        return train, val

    @staticmethod
    def read_and_split_data(
        image_dir: str,
        p_trn: float = 0.5,
        p_val: float = 0.2,
        ignored: Iterable[str] = (),
        new_cnames: Mapping[str, str] | None = None,
        rng: Rng = random,
    ) -> tuple[list[Datum], list[Datum], list[Datum]]:
        """`split_by_shares` of the images in class folders; labels by sorted folder name."""
        items = list_class_folders(image_dir, ignored, new_cnames)
        return FewShotDataset.split_by_shares(items, p_trn, p_val, rng)

    @staticmethod
    def split_by_shares(items: list, p_trn: float = 0.5, p_val: float = 0.2, rng: Rng = random):
        """Train, val and test (the rest) out of every class; of few images one is for training, the next for test."""
        train, val, test = [], [], []
        for group in DatasetBase.split_dataset_by_label(items).values():
            order = list(group)
            rng.shuffle(order)
            n_train = max(1, round(len(order) * p_trn))
            n_val = max(0, min(round(len(order) * p_val), len(order) - n_train - 1))
            train.extend(order[:n_train])
            val.extend(order[n_train : n_train + n_val])
            test.extend(order[n_train + n_val :])
        return as_data(train), as_data(val), as_data(test)

    @staticmethod
    def subsample_classes(*args: list, subsample: str = "all") -> Sequence[list]:
        """All lists cut to the base classes (the first half of the first list's labels, rounded up) or the new ones
        (the rest), relabelled from 0; as they are for "all"."""
        if subsample not in ("all", "base", "new"):
            raise unknown("choice of classes (DATASET.SUBSAMPLE_CLASSES)", subsample, ("all", "base", "new"))
        if subsample == "all":
            return args
        chosen = halves(sorted({item.label for item in args[0]}), subsample)
        relabel = {label: number for number, label in enumerate(chosen)}
        print(f"SUBSAMPLE {subsample.upper()} CLASSES!")
        return [
            as_data(Listed(item.impath, relabel[item.label], item.classname) for item in items if item.label in relabel)
            for items in args
        ]


class TestOnly(FewShotDataset):
    """A set to test on: its images are training and test set at once, since classes are read off the former.

    All classes and all images are used whatever NUM_SHOTS and SUBSAMPLE_CLASSES say.
    """

    __test__ = False  # no test class, whatever pytest makes of its name
    test_only = True

    def select(self, cfg: Any, train: list, val: list | None, test: list) -> dict[str, list | None]:
        if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
            print(f"{type(self).__name__} is a test set: all its classes are used, not the base or new ones")
        return {"train_x": as_data(train), "val": None, "test": as_data(test)}


def halves(things: list, which: str) -> list:
    """The "base" half (the first, rounded up) or the "new" one. Raises InputError where that is empty."""
    half = math.ceil(len(things) / 2)
    chosen = things[:half] if which == "base" else things[half:]
    if not chosen:
        raise InputError(
            f"{len(things)} class or task has no {which} half (DATASET.SUBSAMPLE_CLASSES, SUBSAMPLE_TASKS)"
        )
    return chosen


def list_images(folder: str) -> list[str]:
    """Paths of a folder's images, sorted. Raises InputError where it has none: a class without images."""
    names = listdir_nohidden(folder, sort=True)
    paths = [os.path.join(folder, name) for name in names if name.lower().endswith(IMG_EXTENSIONS)]
    if not paths:
        raise InputError(f"the class folder {folder} has no images ({', '.join(IMG_EXTENSIONS)})")
    if len(paths) < len(names):
        other = sorted({os.path.splitext(name)[1] for name in names} - set(IMG_EXTENSIONS))
        print(f"{folder}: left out {len(names) - len(paths)} files that are no images by name ({', '.join(other)})")
    return paths


def list_class_folders(
    folder: str, ignored: Iterable[str] = (), new_cnames: Mapping[str, str] | None = None
) -> list[Listed]:
    """The images of every class folder in `folder`; labels by sorted name, class names as `new_cnames` changes them."""
    names = [name for name in listdir_nohidden(folder, sort=True) if os.path.isdir(os.path.join(folder, name))]
    return [
        Listed(path, label, (new_cnames or {}).get(name, name))
        for label, name in enumerate(name for name in names if name not in ignored)
        for path in list_images(os.path.join(folder, name))
    ]


def as_data(items: Iterable) -> list[Datum]:
    """Items as `Datum`, which makes sure of their files."""
    data = []
    for item in items:
        if not isinstance(item, Datum):
            if not os.path.isfile(item.impath):
                raise InputError(f"no such image: {item.impath} (of class {item.classname!r})")
            item = Datum(impath=item.impath, label=item.label, classname=item.classname)
        data.append(item)
    return data


def _check_classes(train: list, val: list, test: list) -> None:
    """Every label from 0 up must have a training image, since classes are read off these, and one name everywhere."""
    names = {item.label: item.classname for item in train}
    missing = (set(range(max(names, default=0) + 1)) | {item.label for item in [*val, *test]}) - set(names)
    if missing:
        raise InputError(f"the classes with labels {sorted(missing)} have no images for training")
    for item in [*train, *val, *test]:
        if item.classname != names[item.label]:
            raise InputError(f"label {item.label} is called {names[item.label]!r} and {item.classname!r}")


def _picked(path: str, items: list[Datum], split: str, subsampled: bool) -> list[Datum]:
    """Those of `items` that a few-shot file lists under `split`, in its order.

    The file is a run's fewshot.json, or a cache of the original code, whose absolute paths may be of another machine:
    images are recognised by the end of their path.
    """
    try:
        content = read_pickle(path) if Path(path).suffix == ".pkl" else read_json(path)
        listed = [getattr(entry, "impath", None) or entry[0] for entry in content.get(split, [])]
    except OSError:
        raise
    except Exception as error:  # a broken pickle can raise almost anything
        raise InputError(f"can't read picks from {path} (DATASET.FEWSHOT_FILE): {error!r}") from error
    known = {_tail(item.impath): item for item in items}
    picks = [known[_tail(name)] for name in listed if _tail(name) in known]
    if len(picks) < len(listed) and not subsampled:
        raise InputError(f"{path} (DATASET.FEWSHOT_FILE): {len(listed) - len(picks)} {split} images are not there")
    lost = {item.label for item in items} - {item.label for item in picks}
    if lost and (listed or split == "train"):
        raise InputError(f"{path} (DATASET.FEWSHOT_FILE) lists no {split} image that is here for labels {sorted(lost)}")
    return picks


def _tail(path: str) -> tuple[str, ...]:
    return Path(path).parts[-2:]
