"""What a data set is: lists of `Datum`. Module path and attribute names are those in the field's pickled caches."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import gdown

from dassl.utils.errors import unknown
from dassl.utils.tools import check_isfile


class Datum:
    """An image file with its label (0-based), domain and class name.

    Raises:
        AssertionError: `impath` is no text, or no file is there.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        assert isinstance(impath, str), f"impath must be a str, not {type(impath).__name__}"
        assert check_isfile(impath), f"no such image: {impath}"
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname


class DatasetBase:
    """Lists of `Datum` for training (labelled `train_x`, unlabelled `train_u`), validation and test.

    Classes and their names are read off `train_x` alone.
    """

    dataset_dir = ""  # folder below DATASET.ROOT
    domains: list[str] = []
    test_only = False  # training images are the test images: not to be trained on
    template = "a photo of a {}."  # zero-shot prompt, {} for the class name

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ):
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x or [])
        self._lab2cname, self._classnames = self.get_lab2cname(train_x or [])

    @property
    def train_x(self) -> list[Datum] | None:
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        """label -> class name"""
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names in order of their labels."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """Highest label plus one."""
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """label -> class name, and the names in order of labels."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        """Raise InputError for a domain that the data set doesn't have."""
        for domain in [*source_domains, *target_domains]:
            if domain not in self.domains:
                raise unknown("domain", domain, self.domains)

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Fetch an archive to `dst` (through gdown, Google Drive or not) and unpack it beside that."""
        gdown.download(url, dst, resume=True)
        gdown.extractall(dst, str(Path(dst).parent))

    def generate_fewshot_dataset(
        self,
        *data_sources: list,
        num_shots: int = -1,
        repeat: bool = False,
        rng: random.Random | ModuleType = random,
    ):
        """`num_shots` items a class of each source, drawn class by class in order of first appearance.

        Args:
            repeat: draw with replacement from classes with fewer items; else these are kept whole.
            rng: where the draws come from; Python's global generator unless given.

        Returns:
            One list for one source, a list of lists for several; the inputs themselves where `num_shots` < 1.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for source in data_sources:
            picks: list = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    picks.extend(rng.sample(items, num_shots))
                else:
                    picks.extend(rng.choices(items, k=num_shots) if repeat else items)
            output.append(picks)
        return output[0] if len(output) == 1 else output

    @staticmethod
    def split_dataset_by_label(data_source: Iterable) -> defaultdict[int, list]:
        """label -> items, in order of first appearance."""
        output = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    def split_dataset_by_domain(self, data_source: Iterable[Datum]) -> defaultdict[int, list[Datum]]:
        """domain -> items, in order of first appearance."""
        output = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output
