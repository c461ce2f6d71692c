"""`Datum` (one labelled image file) and `DatasetBase` (lists of `Datum` for training, validation and test).

Every data set class derives from `DatasetBase`. Published few-shot caches are pickled lists of `Datum`. Each pickle
contains the name of this module and the names of the attributes of `Datum`, such as `_impath`. Therefore, these names
must not change.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, TypeVar, overload

from dassl.utils.errors import InputError, unknown
from dassl.utils.files import read_text
from dassl.utils.tools import check_isfile


class Labelled(Protocol):
    """An item with a label: a `Datum`, or an entry of a list of images whose files haven't been checked yet."""

    @property
    def label(self) -> int: ...


Item = TypeVar("Item", bound=Labelled)


class Datum:
    """An image file with its label (0-based), domain and class name.

    Raises:
        AssertionError: `impath` isn't a `str`, or the file doesn't exist.
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


class Task(NamedTuple):
    """A classification task: its name, such as "pet breed recognition", and its classes in order of their labels."""

    name: str
    classnames: Sequence[str]


class DatasetBase:
    """The base class of data sets. A data set has a list of `Datum` for each split.

    `train_x` contains labelled training images, and `train_u` contains unlabelled training images. `val` and `test`
    contain the images for validation and test. If a data set lacks a split, the split's list is None. The number of
    classes and the class names come only from `train_x`.
    """

    dataset_dir = ""  # the data set's folder in DATASET.ROOT
    root = ""  # result files store image paths relative to this folder; "" means DATASET.ROOT
    domains: list[str] = []  # names of the domains, for domain adaptation and generalisation
    test_only = False  # True if `train_x` contains the test images, so training raises an error
    template = "a photo of a {}."  # zero-shot prompt with {} for the class name

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
        """Mapping from label to class name."""
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names in the order of their labels."""
        return self._classnames

    @property
    def tasks(self) -> list[Task]:
        """The tasks of this data set, which a method may learn together. Only some subclasses have several tasks."""
        return [Task(self.task_name(), self.classnames)]

    def task_name(self, default: str = "") -> str:
        """Return the name of this data set's task.

        The name is the first line of `task_name.txt` in the data set's folder. If this file doesn't exist, the name is
        `default`; if `default` is "", the name is made from the name of the data set's class.
        """
        file = Path(self.dataset_dir) / "task_name.txt"
        if file.is_file():
            lines = read_text(file).strip().splitlines()
            if not lines:
                raise InputError(f"{file} is empty. Its first line must be the name of the task")
            return lines[0]
        words = "".join(f" {c}" if c.isupper() else c for c in type(self).__name__).strip().lower()
        return default or f"{words} recognition"

    @property
    def num_classes(self) -> int:
        """Number of classes in `train_x`."""
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """Return the highest label plus one, or 0 if there are no items."""
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return the mapping from label to class name, and the list of names in the order of their labels."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        """Check that the data set has all these domains.

        Raises:
            InputError: one of the names isn't the name of a domain of the data set.
        """
        for domain in [*source_domains, *target_domains]:
            if domain not in self.domains:
                raise unknown("domain", domain, self.domains)

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Download an archive to the file `dst` and extract it into the same folder. Resume a partial download.

        `from_gdrive` isn't used, because gdown can download from any server, including Google Drive.
        """
        import gdown  # slow to import, and only this method needs it

        gdown.download(url, dst, resume=True, timeout=60)
        gdown.extractall(dst, str(Path(dst).parent))

    @overload
    def generate_fewshot_dataset(
        self, source: list[Item], /, *, num_shots: int = ..., repeat: bool = ..., rng: random.Random | ModuleType = ...
    ) -> list[Item]: ...

    @overload
    def generate_fewshot_dataset(
        self,
        first: list[Item],
        second: list[Item],
        /,
        *more: list[Item],
        num_shots: int = ...,
        repeat: bool = ...,
        rng: random.Random | ModuleType = ...,
    ) -> Sequence[list[Item]]: ...

    def generate_fewshot_dataset(
        self,
        *data_sources: list[Item],
        num_shots: int = -1,
        repeat: bool = False,
        rng: random.Random | ModuleType = random,
    ) -> list[Item] | Sequence[list[Item]]:
        """Draw `num_shots` items per class from each source. The classes keep the order in which they first appear.

        Args:
            data_sources: lists of items.
            num_shots: items per class. If it is less than 1, the sources are returned unchanged.
            repeat: if a class has fewer than `num_shots` items, draw with replacement (True), or take each of its items
                once (False, the default).
            rng: the random generator. The default is Python's global generator, as in the original code.

        Returns:
            The drawn items: one list if there is one source, or else a sequence that contains one list per source.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for source in data_sources:
            picks: list[Item] = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    picks.extend(rng.sample(items, num_shots))
                else:
                    picks.extend(rng.choices(items, k=num_shots) if repeat else items)
            output.append(picks)
        return output[0] if len(output) == 1 else output

    @staticmethod
    def split_dataset_by_label(data_source: Iterable[Item]) -> defaultdict[int, list[Item]]:
        """Return a mapping from label to items, in the order of first appearance."""
        output = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    def split_dataset_by_domain(self, data_source: Iterable[Datum]) -> defaultdict[int, list[Datum]]:
        """Return a mapping from domain to items, in the order of first appearance."""
        output = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output
