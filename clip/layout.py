"""How many texts lie in one matrix: a shared prefix, then the class tokens of all sequences, packed without padding.

Prompt classes build a `Layout` (or `Tokens`, from token ids) once. The text tower reads it at every call.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch


def _select(prefix: torch.Tensor, group: torch.Tensor | None, count: int) -> torch.Tensor:
    """(G, ...) -> (count, ...): the prefix that each of `count` sequences follows."""
    return prefix.expand(count, *prefix.shape[1:]) if group is None else prefix[group]


@dataclass
class Bucket:
    """Sequences with the same number of class tokens. Attention takes one bucket at a time."""

    length: int
    count: int
    group: torch.Tensor | None  # (count,) index of the prefix that each sequence follows; None: all follow the same

    def per_sequence(self, prefix: torch.Tensor) -> torch.Tensor:
        """(G, ...) -> (count, ...): for every sequence the entry of its prefix."""
        return _select(prefix, self.group, self.count)


class Layout:
    """Where N sequences lie. Each follows one of G prefixes. Their class tokens are packed one after another.

    The class tokens of a sequence are all its tokens after the prefix; the last one is EOT.

    Args:
        lengths: number of class tokens of each sequence, (N,), at least 1.
        group: index of the prefix that each sequence follows, (N,); None: all follow the same prefix.
    """

    def __init__(self, lengths: torch.Tensor, group: torch.Tensor | None = None):
        self.count = len(lengths)
        self.offset = _offsets(lengths)  # (total,) index of each class token within its sequence
        self.eot = lengths.cumsum(0) - 1  # (N,) packed row of EOT
        self.lengths, self.group = lengths, group
        self.order = lengths.argsort(stable=True)  # (N,) sequences sorted by length, the order of `buckets`
        self.back = self.order.argsort()  # (N,) place of each sequence in `order`
        self.rows_by_length = self.rows(self.order)  # (total,) packed rows, sorted by their sequence's length
        self.eot_by_length = lengths[self.order].cumsum(0) - 1  # (N,) rows of EOT among the sorted ones
        sizes = zip(*(t.tolist() for t in lengths[self.order].unique_consecutive(return_counts=True)), strict=True)
        self.buckets, first = [], 0
        for length, count in sizes:
            chosen = self.order[first : first + count]
            self.buckets.append(Bucket(length, count, None if group is None else group[chosen]))
            first += count

    def per_sequence(self, prefix: torch.Tensor) -> torch.Tensor:
        """(G, ...) -> (N, ...): for every sequence the entry of its prefix."""
        return _select(prefix, self.group, self.count)

    @cached_property
    def one_prefix_each(self) -> "Layout":
        """The same sequences, where sequence i follows prefix i."""
        return Layout(self.lengths, torch.arange(self.count, device=self.lengths.device))

    def chunks(self, tokens: int) -> Iterator["Chunk"]:
        """Split into consecutive sequences with at most `tokens` class tokens, but at least one sequence."""
        ends, first = self.eot + 1, 0
        while first < self.count:
            start = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(torch.searchsorted(ends, start + tokens, right=True)))
            sequences, prefixes, group = slice(first, last), slice(None), None
            if self.group is not None:
                group = self.group[sequences]
                prefixes = slice(int(group.min()), int(group.max()) + 1)
                group = group - prefixes.start
            rows = slice(start, int(ends[last - 1]))
            yield Chunk(sequences, rows, prefixes, Layout(self.lengths[sequences], group))
            first = last

    def rows(self, chosen: torch.Tensor) -> torch.Tensor:
        """Packed rows of the class tokens of some sequences (k,), one sequence after another."""
        lengths = self.lengths[chosen]
        starts = (self.eot + 1 - self.lengths)[chosen]
        return torch.repeat_interleave(starts, lengths) + _offsets(lengths)


@dataclass
class Chunk:
    """Some consecutive sequences of a layout."""

    sequences: slice
    rows: slice  # packed rows of their class tokens
    prefixes: slice  # prefixes that they follow
    layout: Layout  # of these sequences alone


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    """0, 1 ... length - 1 for every sequence, one after another, (total,)."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(starts, lengths)


@dataclass
class Tokens:
    """Token ids of N texts, split into the prefix that all share and each text's class tokens, up to EOT."""

    prefix: torch.Tensor  # (P,)
    class_tokens: torch.Tensor  # (total,)
    layout: Layout

    @classmethod
    def cut(cls, ids: torch.Tensor, start: int | None = None) -> "Tokens":
        """Split token ids.

        Args:
            ids: (N, context length) as `tokenize` returns them: SOS first; EOT is the row's first maximum.
            start: number of positions of the prefix; the default is as many as all texts have in common.
        """
        eot = ids.argmax(dim=-1)  # (N,)
        if start is None:
            same = (ids == ids[0]).all(dim=0).long().cumprod(0)  # (context length,) 1 until the first difference
            start = min(int(same.sum()), int(eot.min()))
        lengths = eot + 1 - start
        class_tokens = torch.cat([row[start : end + 1] for row, end in zip(ids, eot.tolist(), strict=True)])
        return cls(ids[0, :start], class_tokens, Layout(lengths))

    def to(self, device: torch.device) -> "Tokens":
        """The same tokens on `device`."""
        return Tokens(self.prefix.to(device), self.class_tokens.to(device), Layout(self.layout.lengths.to(device)))
