"""Samplers, which set the order in which a loader reads its items.

`build_data_loader` calls `build_sampler` with the name from the config. The group samplers fill each batch from several
domains or classes, and draw from Python's `random` module. When a group sampler is built, it makes one full pass to
count its items. This pass also consumes random numbers.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import Datum
from dassl.utils.errors import InputError, unknown


class _GroupSampler(Sampler[int]):
    """Fills each batch with items from `n_group` groups. Takes batch_size // n_group items from each group.

    An item is drawn at most once in an epoch.

    Args:
        data_source: the items.
        batch_size: items per batch.
        n_group: groups per batch; 0 means all groups.
        group_of: returns the group of an item.
        group_name: "domain" or "label". Error messages use this word for a group.
        shuffle_groups: if True, draw the groups of each batch at random; otherwise take the first `n_group` groups.

    Raises:
        InputError: there are fewer than `n_group` groups, or `n_group` doesn't divide `batch_size`.
    """

    def __init__(
        self,
        data_source: Sequence[Datum],
        batch_size: int,
        n_group: int,
        group_of: Callable[[Datum], int],
        group_name: str,
        shuffle_groups: bool,
    ):
        self.groups: defaultdict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(data_source):
            self.groups[group_of(item)].append(index)
        self.n_group = n_group if n_group > 0 else len(self.groups)
        if batch_size % self.n_group or self.n_group > len(self.groups):
            raise InputError(
                f"can't fill a batch of {batch_size} items with the same number of items from each "
                f"of {self.n_group} {group_name}s. "
                f"{self.n_group} must divide {batch_size}, and must not exceed the data's number of {group_name}s "
                f"({len(self.groups)})"
            )
        self.share = batch_size // self.n_group
        self.shuffle_groups = shuffle_groups
        self.length = sum(1 for _ in self)

    def __iter__(self) -> Iterator[int]:
        pools = {name: random.sample(items, len(items)) for name, items in self.groups.items()}
        names = sorted(pools)
        while True:
            chosen = random.sample(names, self.n_group) if self.shuffle_groups else names[: self.n_group]
            if any(len(pools[name]) < self.share for name in chosen):
                return
            for name in chosen:
                yield from pools[name][: self.share]
                del pools[name][: self.share]

    def __len__(self) -> int:
        return self.length


class RandomDomainSampler(_GroupSampler):
    """Draws `n_domain` random domains for each batch, and the same number of items from each of these domains."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_domain: int):
        super().__init__(data_source, batch_size, n_domain, lambda item: item.domain, "domain", shuffle_groups=True)


class SeqDomainSampler(_GroupSampler):
    """Draws the same number of items from every domain for each batch. Each batch is sorted by domain."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int):
        super().__init__(data_source, batch_size, 0, lambda item: item.domain, "domain", shuffle_groups=False)


class RandomClassSampler(_GroupSampler):
    """Draws batch_size // n_ins random classes for each batch, and `n_ins` items from each of these classes."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_ins: int):
        n_classes = max(1, batch_size // n_ins)
        super().__init__(data_source, batch_size, n_classes, lambda item: item.label, "label", shuffle_groups=True)


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """Return the sampler called `sampler_type` over `data_source`.

    Args:
        sampler_type: name of a sampler, such as the value of DATALOADER.TRAIN_X.SAMPLER.
        cfg: not used. Dassl's signature has this parameter.
        data_source: the items.
        batch_size: items per batch. Only the group samplers use it.
        n_domain: domains per batch, for RandomDomainSampler.
        n_ins: items per class and batch, for RandomClassSampler.

    Raises:
        InputError: there is no sampler of that name.
    """
    source = data_source or []
    builders: dict[str, Callable[[], Sampler[int]]] = {
        "RandomSampler": lambda: RandomSampler(source),
        "SequentialSampler": lambda: SequentialSampler(source),
        "RandomDomainSampler": lambda: RandomDomainSampler(source, batch_size, n_domain),
        "SeqDomainSampler": lambda: SeqDomainSampler(source, batch_size),
        "RandomClassSampler": lambda: RandomClassSampler(source, batch_size, n_ins),
    }
    if sampler_type not in builders:
        raise unknown("sampler (DATALOADER.*.SAMPLER)", sampler_type, builders)
    return builders[sampler_type]()
