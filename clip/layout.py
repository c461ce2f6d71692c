"""Describes how texts are packed without padding. A shared prefix is stored once, and one matrix has all class tokens.

A method's prompt class builds a `Layout` once. If the class starts from token ids, it builds a `Tokens` object, which
contains a layout. The text tower reads the layout in every forward pass.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import torch

T = TypeVar("T")


class Layout:
    """Positions of N sequences in a packed batch. Each sequence starts with one of G shared prefixes.

    The class tokens of a sequence are all its tokens after the prefix, up to EOT. Only class tokens are packed, one
    sequence after another. The index of a class token in the packed matrix is called its packed row.

    Args:
        lengths: number of class tokens of each sequence, (N,), at least 1.
        group: index of the prefix that each sequence follows, (N,); None if all follow the same prefix.
    """

    def __init__(self, lengths: torch.Tensor, group: torch.Tensor | None = None):
        self.lengths, self.group = lengths, group
        self.count = len(lengths)
        self.longest = int(lengths.max())
        self.offset = _offsets(lengths)  # (total,) each class token's position in its sequence, without the prefix
        # (total,) index of the sequence to which each class token belongs
        self.sequence = torch.repeat_interleave(torch.arange(self.count, device=lengths.device), lengths)
        self.eot = lengths.cumsum(0) - 1  # (N,) packed row of each sequence's EOT
        self._cache: dict[Hashable, object] = {}

    def cached(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned at the first call with `key`, so that no step makes index tensors again."""
        if key not in self._cache:
            self._cache[key] = make()
        return cast(T, self._cache[key])

    def per_sequence(self, prefix: torch.Tensor) -> torch.Tensor:
        """Turn a tensor with one row per prefix (G, ...) into a tensor with one row per sequence (N, ...)."""
        if self.group is None:
            return prefix.expand(self.count, *prefix.shape[1:])
        return prefix.index_select(0, self.group)

    @cached_property
    def one_prefix_each(self) -> "Layout":
        """The layout of the same sequences if each sequence has a separate prefix. Sequence i follows prefix i."""
        return Layout(self.lengths, torch.arange(self.count, device=self.lengths.device))

    def chunks(self, tokens: int) -> list["Chunk"]:
        """Split the layout into chunks of consecutive sequences.

        A chunk has at most `tokens` class tokens. A sequence with more class tokens becomes a separate chunk.
        """
        return self.cached(tokens, lambda: self._chunks(tokens))

    def _chunks(self, tokens: int) -> list["Chunk"]:
        ends, first, chunks = (self.eot + 1).tolist(), 0, []
        while first < self.count:
            start = ends[first - 1] if first else 0
            last = max(first + 1, bisect_right(ends, start + tokens))
            chunks.append(self._chunk(first, last, slice(start, ends[last - 1])))
            first = last
        return chunks

    def _chunk(self, first: int, last: int, rows: slice) -> "Chunk":
        """Return the chunk of the sequences `first` to `last` - 1, whose class tokens are in the packed rows `rows`."""
        sequences, prefixes, group = slice(first, last), slice(None), None
        if self.group is not None:
            group = self.group[sequences]
            prefixes = slice(int(group.min()), int(group.max()) + 1)
            group = group - prefixes.start
        return Chunk(sequences, rows, prefixes, Layout(self.lengths[sequences], group))

    def parts(self, count: int, prefix_tokens: float) -> list["Chunk"]:
        """Split the layout into `count` chunks of consecutive sequences, which cost about the same.

        Args:
            count: at most the number of sequences, so that each chunk has at least one.
            prefix_tokens: number of prefix tokens for each sequence, which can be a fraction. The cost of a sequence is
                the number of its class tokens, plus `prefix_tokens`.
        """
        return self.cached(("parts", count, prefix_tokens), lambda: self._parts(count, prefix_tokens))

    def _parts(self, count: int, prefix_tokens: float) -> list["Chunk"]:
        ends = (self.eot + 1).tolist()
        costs = [0.0, *(end + number * prefix_tokens for number, end in enumerate(ends, 1))]  # of the first n sequences
        bounds = [0]
        for part in range(1, count):
            target = costs[-1] * part / count
            nearest = bisect_right(costs, target)
            nearest -= target - costs[nearest - 1] <= costs[nearest] - target
            # Leave at least one sequence for this part and for each of the next parts.
            bounds.append(min(max(nearest, bounds[-1] + 1), self.count - (count - part)))
        tokens = [0, *ends]
        spans = zip(bounds, [*bounds[1:], self.count], strict=True)
        return [self._chunk(first, last, slice(tokens[first], tokens[last])) for first, last in spans]

    def rows(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the packed rows of some sequences, one sequence after another.

        Args:
            chosen: (k,) indices of the sequences.
        """
        lengths = self.lengths[chosen]
        starts = (self.eot + 1 - self.lengths)[chosen]
        return torch.repeat_interleave(starts, lengths) + _offsets(lengths)


@dataclass
class Chunk:
    """A chunk of consecutive sequences of a layout."""

    sequences: slice  # indices of the sequences in the whole layout
    rows: slice  # packed rows of these sequences' class tokens in the whole layout
    prefixes: slice  # the smallest range that contains the prefixes of all these sequences
    layout: Layout  # layout of only these sequences and prefixes


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    """Return the position of each class token within its sequence, (total,). Each sequence counts from 0."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(starts, lengths)


@dataclass
class Tokens:
    """Token ids of N texts. They are split into one shared prefix, and the class tokens of each text up to EOT."""

    prefix: torch.Tensor  # (P,)
    class_tokens: torch.Tensor  # (total,)
    layout: Layout

    @classmethod
    def cut(cls, ids: torch.Tensor, start: int | None = None) -> "Tokens":
        """Split token ids into the prefix and the class tokens.

        Args:
            ids: (N, context length) as returned by `tokenize`. A row starts with SOS. EOT is the highest id.
            start: length of the prefix; None: all first tokens that the texts share, without EOT.
        """
        eot = ids.argmax(dim=-1)  # (N,)
        if start is None:
            same = (ids == ids[0]).all(dim=0).long().cumprod(0)  # 1 until two texts differ, then 0
            start = min(int(same.sum()), int(eot.min()))
        lengths = eot + 1 - start
        class_tokens = torch.cat([row[start : end + 1] for row, end in zip(ids, eot.tolist(), strict=True)])
        return cls(ids[0, :start], class_tokens, Layout(lengths))

    def to(self, device: torch.device) -> "Tokens":
        """Return the same tokens on `device`."""
        return Tokens(self.prefix.to(device), self.class_tokens.to(device), Layout(self.layout.lengths.to(device)))
