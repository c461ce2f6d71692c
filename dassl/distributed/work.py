"""Splits work among the processes of a run, and collects their results."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from dassl.distributed.group import collective, group, is_main, size

if TYPE_CHECKING:
    import torch

    from dassl.distributed.features import GatheredFeatures

T = TypeVar("T")
Prediction = tuple["torch.Tensor", "torch.Tensor", list[str]]  # logits, labels and paths of a batch


# ---- control flow ----


def on_main(function: Callable[[], T]) -> T:
    """Call `function` in the main process only, and return its result in all processes.

    The result must be picklable. All processes must call `on_main`. They wait until the main process is done.
    """
    run = group()
    if run is None:
        return function()
    from torch import distributed

    content = [function() if is_main() else None]
    with collective():
        distributed.broadcast_object_list(content, src=0)
    return cast(T, content[0])


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """A context manager whose body the main process executes before the others, for example to make files for all."""
    if not is_main():
        on_main(_nothing)
    yield
    if is_main():
        on_main(_nothing)


def _nothing() -> None:
    pass


def check_equal(tensors: "Iterable[torch.Tensor]", what: str) -> None:
    """Raise RuntimeError if the tensors differ between the processes. `what` names the tensors in the message."""
    run = group()
    if run is None:
        return
    sums = [tensor.detach().double().norm().item() for tensor in tensors]
    if any(repr(other) != repr(sums) for other in _gather_objects(sums)):  # `repr`, because NaN isn't equal to NaN
        raise RuntimeError(f"{what} differ between the {run.size} processes")


# ---- shares ----


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share of the items of a batch. All shares are consecutive and equally long."""
    run = group()
    if run is None:
        return items
    length = len(items) // run.size
    return items[run.rank * length : (run.rank + 1) * length]


def gather_shares(own: "torch.Tensor") -> "torch.Tensor":
    """Return the rows of a whole batch. `own` has the rows of this process's share, such as labels (n,)."""
    run = group()
    if run is None:
        return own
    from dassl.distributed.features import gather_values

    return gather_values(own, [len(own)] * run.size)


def own_part(parts: Sequence[T]) -> T:
    """Return the part of this process. There is one part for each process."""
    run = group()
    return parts[run.rank] if run else parts[0]


def every_nth(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share of a test's batches: with N processes, every N-th batch."""
    run = group()
    return items[run.rank :: run.size] if run else items


def predictions_in_order(own: Iterator[Prediction], count: int) -> Iterator[Prediction]:
    """Yield the predictions of all processes in the main process, in the order of a single process.

    In the other processes, nothing is yielded, but the iterator must be consumed all the same.

    Args:
        own: logits, labels and paths for this process's share of `count` batches, as `every_nth` returns it.
    """
    run = group()
    if run is None:
        yield from own
        return
    from torch import distributed

    for first in range(0, count, run.size):
        found: list[Prediction | None] | None = [None] * run.size if is_main() else None
        result = next(own, None)
        if result is not None:  # the main process can't use the memory of another process's GPU
            result = result[0].cpu(), result[1].cpu(), result[2]
        with collective():
            distributed.gather_object(result, found)
        yield from cast(list[Prediction], found or [])[: count - first]


def merged(own: Sequence[T]) -> list[T]:
    """Return the results of all processes for all batches, in the order of a single process.

    Args:
        own: the results of this process for its share of the batches, as `every_nth` returns it. Picklable.
    """
    run = group()
    if run is None:
        return list(own)
    missing = object()
    rounds = itertools.zip_longest(*_gather_objects(own), fillvalue=missing)
    return [cast(T, result) for one in rounds for result in one if result is not missing]


def _gather_objects(own: T) -> list[T]:
    from torch import distributed

    found: list[T | None] = [None] * size()
    with collective():
        distributed.all_gather_object(found, own)
    return cast(list[T], found)


def gathered_features() -> "GatheredFeatures | None":
    """Return how the towers gather the features of all processes. None: there is only one process."""
    run = group()
    if run is None:
        return None
    from dassl.distributed.features import GatheredFeatures

    return GatheredFeatures()
