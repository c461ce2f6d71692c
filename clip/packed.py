"""Defines `PackedRows`: which rows the text tower's matrix has, and how attention is computed between them.

`clip.text_layers` runs the layers on one matrix (rows, width). Norms, projections and the MLP treat each row alone, so
they need no structure. Only attention does. Two subclasses compute it:

- `clip.by_length.RowsByLength` makes one call for each length of the class tokens, so nothing is padded.
- `clip.padded.PaddedRows` pads the sequences and makes a single call.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, TypeVar

import torch

from clip.blocks import ResidualAttentionBlock
from clip.inputs import BlockAdapter
from clip.layout import Layout

Self = TypeVar("Self", bound="PackedRows")


class LastRows(NamedTuple):
    """The rows of the last layer whose outputs are needed: of EOT, and of the inserted tokens if they are wanted."""

    kept: torch.Tensor  # (k,) indices of these rows in the matrix
    attended: torch.Tensor  # (k, width) results of the attention for these rows
    h: torch.Tensor | None = None  # (k, width) outputs of `ln_1` for these rows, if they were needed


class PackedRows(ABC):
    """The rows of a matrix: first G prefixes of P tokens each, then the class tokens of all N sequences.

    An object is built once for a layout, with `PackedRows.of`, because it holds index tensors.

    Args:
        n_prefixes: G.
        prefix_length: P.
    """

    #: (N,) index of each sequence's EOT among the class tokens, in the order in which `attend_last` returns EOT
    eot: torch.Tensor

    def __init__(self, layout: Layout, n_prefixes: int, prefix_length: int):
        self.layout, self.n_prefixes, self.prefix_length = layout, n_prefixes, prefix_length
        self.n_prefix_rows = n_prefixes * prefix_length
        self._last_rows: dict[int, torch.Tensor] = {}

    @classmethod
    def of(cls: type[Self], layout: Layout, n_prefixes: int, prefix_length: int) -> Self:
        """Return `cls(layout, n_prefixes, prefix_length)`. The layout keeps the object for the next call."""
        return layout.cached((cls, n_prefixes, prefix_length), lambda: cls(layout, n_prefixes, prefix_length))

    def join(self, prefix: torch.Tensor, class_tokens: torch.Tensor) -> torch.Tensor:
        """Join prefixes (G, P, width) and class tokens (total, width) to a matrix (rows, width)."""
        return torch.cat([prefix.flatten(0, 1), class_tokens])

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Undo `join`."""
        prefix, class_tokens = x.split([self.n_prefix_rows, len(x) - self.n_prefix_rows])
        return prefix.unflatten(0, (self.n_prefixes, self.prefix_length)), class_tokens

    def sort(self, class_tokens: torch.Tensor) -> torch.Tensor:
        """Bring class tokens (total, width), packed as the layout describes, into the order that `attend` expects."""
        return class_tokens

    def unsort(self, eot: torch.Tensor) -> torch.Tensor:
        """Bring the rows of EOT (N, width), ordered as `attend_last` returns them, into the order of the sequences."""
        return eot

    @abstractmethod
    def attend(self, qkv: torch.Tensor, heads: int) -> torch.Tensor:
        """Compute the attention of all rows.

        A row of a prefix attends to itself and to earlier rows of its prefix. A class token attends to its whole
        prefix, to itself and to earlier class tokens of its sequence.

        Args:
            qkv: queries, keys and values side by side, (rows, 3 * width).

        Returns:
            One row for each query, (rows, width).
        """

    @abstractmethod
    def attend_last(
        self, block: ResidualAttentionBlock, h: torch.Tensor, heads: int, adapter: BlockAdapter | None, n_first: int
    ) -> LastRows:
        """Compute the attention of the last layer, for the rows of `last_rows`.

        Args:
            h: output of the block's `ln_1`, (rows, width).
            n_first: see `last_rows`.
        """

    def last_rows(self, n_first: int) -> torch.Tensor:
        """Return the indices of the rows whose outputs the last layer needs, (N + G * n_first,).

        These are the rows of EOT and, if inserted tokens are wanted, the first rows of each prefix.

        Args:
            n_first: number of rows at the start of each prefix.
        """
        if n_first not in self._last_rows:
            starts = torch.arange(self.n_prefixes, device=self.eot.device) * self.prefix_length  # (G,)
            first = starts[:, None] + torch.arange(n_first, device=self.eot.device)  # (G, n_first)
            self._last_rows[n_first] = torch.cat([self.n_prefix_rows + self.eot, first.flatten()])
        return self._last_rows[n_first]
