"""Defines `Sharing`: how several processes share the work of the towers.

`CLIP.sharing` is None if there is only one process. Otherwise, each process encodes its part of the images and of the
texts, and the features of all processes are gathered. The code that connects processes isn't part of `clip/`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch

from clip.inputs import TowerInputs

T = TypeVar("T")


class Sharing(Protocol):
    """Connects the processes that share the work of the towers."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def own(self, parts: Sequence[T]) -> T:
        """Return the part of this process. There is one part for each process."""

    def gather(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Return the rows of all processes, (sum of counts, ...). Gradients flow back to the process of each row.

        Args:
            rows: rows of this process, as many as its entry of `counts`.
            counts: number of rows of each process.
        """

    def sum_gradients(
        self, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """Return the sum of the gradients of all processes for each parameter.

        A gradient of None counts as zero. The sum is None if the gradient is None in all processes.
        """


def gather_equal(sharing: Sharing | None, rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, of which each has equally many. Without sharing, return `rows`."""
    return rows if sharing is None else sharing.gather(rows, [len(rows)] * sharing.size)


@contextlib.contextmanager
def own_random_numbers(sharing: Sharing | None, inputs: TowerInputs, device: torch.device) -> Iterator[None]:
    """Inside this context, each process draws other random numbers, if adapters may need some, such as for dropout.

    The processes draw different amounts, because their parts differ. After the context, all have the same random state.
    """
    if sharing is None or not inputs.adapters:
        yield
        return
    seed = sharing.own(torch.randint(2**32, (sharing.size,)).tolist())
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
