"""Base classes of the data sets in this folder. Data sets also import their helper functions from this file.

To add a data set, add a file to this folder with a class that extends `FewShotDataset`. The new class states where the
data set's files are, and reads the annotations. The base class reads the split file, draws few-shot images, and selects
base or new classes.
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
from datasets._missing import MissingData, missing_data
from datasets._splits import Rng as Rng
from datasets._splits import halves as halves


class Download(NamedTuple):
    """A file that `scripts/download.sh` downloads. An archive is unpacked; any other file is stored at `target`."""

    url: str
    target: str = ""  # path below the data set's folder; "" if `url` is an archive
    md5: str = ""  # expected checksum; "" if it isn't checked
    inside: str = ""  # keep only the contents of this folder in the archive; "" to keep everything
    inner: str = ""  # name of an archive inside the archive; it is also unpacked; "" if there is none
    filename: str = ""  # the archive's file name; "" to use the last part of `url`
    entries: tuple[int, int, int] | None = None  # for a split file: number of train, val and test images in it


def gdrive(file_id: str) -> str:
    """Return the URL from which a file on Google Drive can be downloaded."""
    return f"https://drive.google.com/uc?id={file_id}"


class FewShotDataset(DatasetBase):
    """Base class of data sets whose folders are laid out as CoOp's DATASETS.md describes.

    A subclass sets the attributes below and defines `read_annotations`, which is called if there is no split file.

    With the same seed and split file, the few-shot images are the same as in the original code. To ensure this,
    few-shot images are drawn from train first, and from val second. In both splits, images are drawn class by class, in
    the order in which the classes first appear. Val gets at most 4 images per class. Base or new classes are selected
    after the draw.

    Raises:
        InputError: if files are missing. The message names a missing file and says how to get it.
    """

    takes_path = False  # True if the data are at DATASET.PATH instead of below DATASET.ROOT
    image_dir = ""  # folder of images, below dataset_dir
    split_file = ""  # published split file, below dataset_dir; "" if none was published
    needs: Sequence[str] = ()  # other required files and folders, below dataset_dir
    downloads: Sequence[Download] = ()
    by_hand = ""  # instructions for getting files that scripts/download.sh can't download; "" if there are none
    metric = "overall_acc"  # score as a task of a `MultiTask`: "overall_acc", or "mean_acc" (mean over classes)
    xd_source = "imagenet"  # config of the data set on which the cross-dataset protocol trains prompts
    fewshot_val = True  # True: few-shot images are also drawn from val; False: all val images are used

    def __init__(self, cfg: CfgNode):
        cls = type(self)
        if cfg.DATASET.PATH and not cls.takes_path:
            raise InputError(
                f"{cls.__name__} doesn't use DATASET.PATH. DATASET.PATH is for your own data, "
                "which you select by --dataset-config-file configs/datasets/folder.yaml"
            )
        if cfg.DATASET.LABEL and not cls.takes_path:
            raise InputError(f"{cls.__name__} doesn't use DATASET.LABEL, which is a name for your own data")
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
        """Read the raw files and return the train, val and test images. Use `rng` for random splits."""
        raise TypeError(f"{type(self).__name__} must define read_annotations")

    def check_present(self) -> None:
        """Raise InputError if files are missing. The message names a missing file and says how to get it."""
        error = missing_data(type(self), self.root, self.dataset_dir)
        if error:
            raise error

    def _read_splits(self, seed: int) -> Splits:
        """Read the splits from the published split file. If this file doesn't exist, read the raw files instead."""
        cls = type(self)
        if cls.split_file and os.path.isfile(self.split_path):
            return self.read_split(self.split_path, self.image_dir)
        download = f"bash scripts/download.sh {cls.__name__}"
        try:
            splits = self.read_annotations(random.Random(seed))
        except FileNotFoundError as error:
            split = f" and {cls.split_file} don't exist" if cls.split_file else " doesn't exist"
            raise MissingData(f"{cls.__name__}: {error.filename}{split}; get the data set with: {download}") from error
        except InputError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # lines of another form
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{cls.__name__}: can't read the annotations in {self.dataset_dir}: {reason}") from error
        if cls.split_file:
            print(
                f"{self.split_path} is missing, so a split was drawn with seed {seed}. Published results use "
                f"the missing file. Get it with: {download}"
            )
        return splits

    def select(
        self, cfg: CfgNode, train: Sequence[Item], val: Sequence[Item] | None, test: Sequence[Item]
    ) -> dict[str, list[Datum] | None]:
        """Select images by the shots and classes in `cfg`. Return them as keyword arguments for `DatasetBase`."""
        shots, picks, classes = cfg.DATASET.NUM_SHOTS, cfg.DATASET.FEWSHOT_FILE, cfg.DATASET.SUBSAMPLE_CLASSES
        rng: Rng = random.Random(cfg.SEED) if cfg.SEED >= 0 else random
        _splits.check_classes(train, val or [], test)
        if shots >= 1 and not picks:
            draws_val = bool(val) and self.fewshot_val
            if draws_val and cfg.DATASET.VAL_SHOTS_FIRST:
                val = self.generate_fewshot_dataset(list(val or []), num_shots=min(shots, 4), rng=rng)
            train = self.generate_fewshot_dataset(list(train), num_shots=shots, rng=rng)
            if draws_val and not cfg.DATASET.VAL_SHOTS_FIRST:
                val = self.generate_fewshot_dataset(list(val or []), num_shots=min(shots, 4), rng=rng)
        lists = self.subsample_classes(train, val or [], test, subsample=classes)
        train_x, val_x, test_x = (as_data(items) for items in lists)
        if not test_x:
            raise InputError(f"{type(self).__name__} has no test images in {self.dataset_dir}")
        if picks:
            subsampled, root = classes != "all", self.dataset_dir if self.takes_path else self.root
            train_x = pick_listed(picks, train_x, "train", subsampled, root)
            val_x = pick_listed(picks, val_x, "val", subsampled, root) or val_x
        return {"train_x": train_x, "val": val_x or None, "test": test_x}

    # Third-party data sets call these functions as methods of this class or of a subclass.
    read_split = staticmethod(_splits.read_split)
    save_split = staticmethod(_splits.save_split)
    split_trainval = staticmethod(_splits.split_trainval)
    read_and_split_data = staticmethod(_splits.read_and_split_data)
    split_by_shares = staticmethod(_splits.split_by_shares)
    subsample_classes = staticmethod(_splits.subsample_classes)


class TestOnly(FewShotDataset):
    """Base class of data sets without training images, which test prompts that were trained on another data set.

    All classes and images are used, so NUM_SHOTS and SUBSAMPLE_CLASSES have no effect. `train_x` holds the test images
    too, because the class names are read from `train_x`.
    """

    __test__ = False  # tells pytest that this class isn't a test, although its name starts with Test
    test_only = True

    def select(
        self, cfg: CfgNode, train: Sequence[Item], val: Sequence[Item] | None, test: Sequence[Item]
    ) -> dict[str, list[Datum] | None]:
        if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
            print(f"{type(self).__name__} is only for testing: all classes are used, and SUBSAMPLE_CLASSES is ignored")
        return {"train_x": as_data(train), "val": None, "test": as_data(test)}
