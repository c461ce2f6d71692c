"""In which order a loader takes its items."""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from dassl.utils.errors import InputError, unknown


class _GroupSampler(Sampler):
    """Batches of `n_group` groups (domains or classes) with batch_size // n_group items of each, without repetition."""

    def __init__(self, data_source: list, batch_size: int, n_group: int, key: str, shuffle_groups: bool):
        self.groups = defaultdict(list)
        for index, item in enumerate(data_source):
            self.groups[getattr(item, key)].append(index)
        self.n_group = n_group if n_group > 0 else len(self.groups)
        if batch_size % self.n_group or self.n_group > len(self.groups):
            raise InputError(
                f"a batch of {batch_size} can't be made of equal parts of {self.n_group} of {len(self.groups)} {key}s"
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
    """Every batch: `n_domain` domains drawn at random, equally many items of each."""

    def __init__(self, data_source: list, batch_size: int, n_domain: int):
        super().__init__(data_source, batch_size, n_domain, "domain", shuffle_groups=True)


class SeqDomainSampler(_GroupSampler):
    """Every batch: equally many items of every domain, in order of the domains."""

    def __init__(self, data_source: list, batch_size: int):
        super().__init__(data_source, batch_size, 0, "domain", shuffle_groups=False)


class RandomClassSampler(_GroupSampler):
    """Every batch: classes drawn at random, `n_ins` items of each."""

    def __init__(self, data_source: list, batch_size: int, n_ins: int):
        super().__init__(data_source, batch_size, max(1, batch_size // n_ins), "label", shuffle_groups=True)


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: list | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler:
    """The sampler of that name over `data_source`. Raises InputError (a ValueError) for an unknown name."""
    source = data_source or []
    builders = {
        "RandomSampler": lambda: RandomSampler(source),
        "SequentialSampler": lambda: SequentialSampler(source),
        "RandomDomainSampler": lambda: RandomDomainSampler(source, batch_size, n_domain),
        "SeqDomainSampler": lambda: SeqDomainSampler(source, batch_size),
        "RandomClassSampler": lambda: RandomClassSampler(source, batch_size, n_ins),
    }
    if sampler_type not in builders:
        raise unknown("sampler (DATALOADER.*.SAMPLER)", sampler_type, builders)
    return builders[sampler_type]()
