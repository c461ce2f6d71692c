"""The base classes of our data sets, and the helpers that data sets import from here.

A data set is one file in this folder with a class that extends `FewShotDataset`. The class names its files and reads
its annotations. The base class reads the split file, draws few-shot images, and selects base or new classes.
"""

import os
import random
from collections.abc import Sequence
from typing import NamedTuple

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import InputError
from datasets import _splits
from datasets._fewshot_file import pick_listed
from datasets._images import IMG_EXTENSIONS as IMG_EXTENSIONS
from datasets._images import Item as Item
from datasets._images import Listed as Listed
from datasets._images import Splits as Splits
from datasets._images import as_data as as_data
from datasets._images import list_class_folders as list_class_folders
from datasets._images import list_images as list_images
from datasets._missing import missing_data
from datasets._splits import Rng as Rng
from datasets._splits import halves as halves


class Download(NamedTuple):
    """A file that `scripts/download.sh` downloads: an archive to unpack, or a file to store as `target`."""

    url: str
    target: str = ""  # path below the data set's folder; empty: `url` is an archive
    md5: str = ""  # expected checksum; empty: not checked
    inside: str = ""  # folder in the archive whose contents become the data set's folder
    inner: str = ""  # archive inside the archive, unpacked too
    filename: str = ""  # the archive's name if the address doesn't end in it
    entries: tuple[int, int, int] | None = None  # expected numbers of train, val and test images in a split file


def gdrive(file_id: str) -> str:
    """Return the address of a file on Google Drive."""
    return f"https://drive.google.com/uc?id={file_id}"


class FewShotDataset(DatasetBase):
    """A data set in the folder layout of CoOp's DATASETS.md.

    A subclass sets the attributes below and defines `read_annotations`, which is called if there is no split file.

    For the same seed and split file, few-shot picks equal those of the original code. Train is drawn before val, and
    within them class by class in order of first appearance. Val gets at most 4 images per class. Base or new classes
    are selected after the draw.

    Raises:
        InputError: if files are missing. The message names them and says how to get them.
    """

    takes_path = False  # whether DATASET.PATH, instead of DATASET.ROOT, names its place
    image_dir = ""  # folder of images, below dataset_dir
    split_file = ""  # published split file, below dataset_dir; empty: none was published
    needs: Sequence[str] = ()  # other required files and folders, below dataset_dir
    downloads: Sequence[Download] = ()
    by_hand = ""  # how to get the files that can't be downloaded
    metric = "overall_acc"  # score as a task of `MultiTask`; or mean_acc, the mean over classes
    xd_source = "imagenet"  # config of the data set that the cross-dataset protocol trains on before testing here
    fewshot_val = True  # whether val, too, is reduced to few shots

    def __init__(self, cfg: CfgNode):
        cls = type(self)
        if cfg.DATASET.PATH and not cls.takes_path:
            raise InputError(
                f"{cls.__name__} doesn't take DATASET.PATH. "
                "DATASET.PATH is for your own data, with --dataset-config-file configs/datasets/folder.yaml"
            )
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = self.locate(cfg)
        self.image_dir = os.path.join(self.dataset_dir, cls.image_dir)
        self.check_present()
        self.split_path = os.path.join(self.dataset_dir, cls.split_file)
        super().__init__(**self.select(cfg, *self._read_splits(max(cfg.SEED, 0))))

    def locate(self, cfg: CfgNode) -> str:
        """Return the path of the data set's folder."""
        return os.path.join(self.root, type(self).dataset_dir)

    def read_annotations(self, rng: random.Random) -> Splits:
        """Return train, val and test from the raw files. Random splits are drawn by `rng`, which SEED seeds."""
        raise TypeError(f"{type(self).__name__} must define read_annotations")

    def check_present(self) -> None:
        """Raise InputError if files are missing. The message names them and says how to get them."""
        error = missing_data(type(self), self.root, self.dataset_dir)
        if error:
            raise error

    def _read_splits(self, seed: int) -> Splits:
        """Return the splits of the published split file, or of the raw files if it is missing."""
        cls = type(self)
        if cls.split_file and os.path.isfile(self.split_path):
            return self.read_split(self.split_path, self.image_dir)
        download = f"bash scripts/download.sh {cls.__name__}"
        try:
            splits = self.read_annotations(random.Random(seed))
        except FileNotFoundError as error:
            split = f" and no {cls.split_file}" if cls.split_file else ""
            raise InputError(f"{cls.__name__}: no {error.filename}{split}; get it with: {download}") from error
        if cls.split_file:
            print(
                f"{self.split_path} is missing: drew a split by seed {seed}. Published numbers use that file; "
                f"get it with: {download}"
            )
        return splits

    def select(
        self, cfg: CfgNode, train: Sequence[Item], val: Sequence[Item] | None, test: Sequence[Item]
    ) -> dict[str, list[Datum] | None]:
        """Return the images that the config asks for, as arguments of `DatasetBase`: few shots, base or new classes."""
        shots, picks, classes = cfg.DATASET.NUM_SHOTS, cfg.DATASET.FEWSHOT_FILE, cfg.DATASET.SUBSAMPLE_CLASSES
        rng: Rng = random.Random(cfg.SEED) if cfg.SEED >= 0 else random
        _splits.check_classes(train, val or [], test)
        if shots >= 1 and not picks:
            train = self.generate_fewshot_dataset(list(train), num_shots=shots, rng=rng)
            if val and self.fewshot_val:
                val = self.generate_fewshot_dataset(list(val), num_shots=min(shots, 4), rng=rng)
        lists = self.subsample_classes(train, val or [], test, subsample=classes)
        train_x, val_x, test_x = (as_data(items) for items in lists)
        if not test_x:
            raise InputError(f"{type(self).__name__} has no images to test on in {self.dataset_dir}")
        if picks:
            subsampled = classes != "all"
            train_x = pick_listed(picks, train_x, "train", subsampled)
            val_x = pick_listed(picks, val_x, "val", subsampled) or val_x
        return {"train_x": train_x, "val": val_x or None, "test": test_x}

    # Third-party data sets call these on this class or on any subclass.
    read_split = staticmethod(_splits.read_split)
    save_split = staticmethod(_splits.save_split)
    split_trainval = staticmethod(_splits.split_trainval)
    read_and_split_data = staticmethod(_splits.read_and_split_data)
    split_by_shares = staticmethod(_splits.split_by_shares)
    subsample_classes = staticmethod(_splits.subsample_classes)


class TestOnly(FewShotDataset):
    """A data set without training images, for testing prompts that were trained on another data set.

    All classes and images are used, so NUM_SHOTS and SUBSAMPLE_CLASSES have no effect. The test images also serve as
    `train_x`, since class names are read from there.
    """

    __test__ = False  # keeps pytest from collecting this class because of its name
    test_only = True

    def select(
        self, cfg: CfgNode, train: Sequence[Item], val: Sequence[Item] | None, test: Sequence[Item]
    ) -> dict[str, list[Datum] | None]:
        if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
            print(f"{type(self).__name__} is a test set: all its classes are used, not the base or new ones")
        return {"train_x": as_data(train), "val": None, "test": as_data(test)}
