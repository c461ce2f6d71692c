"""Shares batches among the processes of a run. Without torchrun, a single process gets all of them.

In training, each process loads its share of the images of each batch. In a test, each process loads every N-th batch of
N processes, so a test's batches are those of a single process.
"""

from collections.abc import Iterator, Sequence

from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from dassl import distributed
from dassl.utils.errors import InputError


class ShareSampler(Sampler[int]):
    """Yields this process's share of the items of each batch. All processes must draw the same random numbers.

    Args:
        sampler: the order of all items.
        batch_size: items per batch of all processes together.
        drop_last: whether the last batch is left out if it is incomplete.
        n_items: number of items of `sampler`.

    Raises:
        InputError: a batch can't be shared equally.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, drop_last: bool, n_items: int):
        n_processes, smallest = distributed.size(), min(batch_size, n_items)
        if smallest % n_processes:
            reason = f"there are only {n_items} training images" if n_items < batch_size else "it is the batch size"
            raise InputError(
                f"{n_processes} processes can't share a batch of {smallest} images equally ({reason}). "
                f"Set DATALOADER.TRAIN_X.BATCH_SIZE to a multiple of {n_processes}, or start fewer processes"
            )
        self.batches = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = smallest // n_processes  # items per batch of this process

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches:
            yield from distributed.own_share(batch)

    def __len__(self) -> int:
        return len(self.batches) * self.batch_size


def loader_of_share(loader: DataLoader) -> DataLoader:
    """Return a loader of this process's share of a test's batches. A single process gets `loader` itself."""
    if distributed.size() == 1:
        return loader
    # The order may be random, so all processes use the main process's order.
    batches: Sequence[list[int]] = distributed.on_main(lambda: list(loader.batch_sampler or ()))
    dataset: Dataset = loader.dataset
    return DataLoader(
        dataset,
        batch_sampler=distributed.every_nth(batches),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
    )
