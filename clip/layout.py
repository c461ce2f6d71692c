"""Describes how texts are packed without padding. A shared prefix is stored once, and one matrix has all class tokens.

A method's prompt class builds a `Layout` once. If the class starts from token ids, it builds a `Tokens` object, which
contains a layout. The text tower reads the layout in every forward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch


def _select(prefix: torch.Tensor, group: torch.Tensor | None, count: int) -> torch.Tensor:
    """Turn a tensor with one row per prefix (G, ...) into a tensor with one row per sequence (count, ...).

    `group` has the same meaning as in `Bucket`.
    """
    return prefix.expand(count, *prefix.shape[1:]) if group is None else prefix[group]


@dataclass
class Bucket:
    """Sequences with the same number of class tokens. Attention runs bucket by bucket, so it needs no padding.

    Args:
        length: number of class tokens of each sequence.
        count: number of sequences.
    """

    length: int
    count: int
    group: torch.Tensor | None  # (count,) index of the prefix that each sequence follows; None if all follow the same

    def per_sequence(self, prefix: torch.Tensor) -> torch.Tensor:
        """Turn a tensor with one row per prefix (G, ...) into a tensor with one row per sequence (count, ...)."""
        return _select(prefix, self.group, self.count)


class Layout:
    """Positions of N sequences in a packed batch. Each sequence starts with one of G shared prefixes.

    The class tokens of a sequence are all its tokens after the prefix, up to EOT. Only class tokens are packed, one
    sequence after another. The index of a class token in the packed matrix is called its packed row.

    Args:
        lengths: number of class tokens of each sequence, (N,), at least 1.
        group: index of the prefix that each sequence follows, (N,); None if all follow the same prefix.
    """

    def __init__(self, lengths: torch.Tensor, group: torch.Tensor | None = None):
        self.count = len(lengths)
        self.offset = _offsets(lengths)  # (total,) each class token's position in its sequence, without the prefix
        self.eot = lengths.cumsum(0) - 1  # (N,) packed row of each sequence's EOT
        self.lengths, self.group = lengths, group
        self.order = lengths.argsort(stable=True)  # (N,) indices of the sequences, from short to long
        self.back = self.order.argsort()  # (N,) position of each sequence in `order`
        self.rows_by_length = self.rows(self.order)  # (total,) packed rows, from short to long sequences
        self.eot_by_length = lengths[self.order].cumsum(0) - 1  # (N,) index of each EOT in `rows_by_length`
        sizes = zip(*(t.tolist() for t in lengths[self.order].unique_consecutive(return_counts=True)), strict=True)
        self.buckets, first = [], 0
        for length, count in sizes:
            chosen = self.order[first : first + count]
            self.buckets.append(Bucket(length, count, None if group is None else group[chosen]))
            first += count

    def per_sequence(self, prefix: torch.Tensor) -> torch.Tensor:
        """Turn a tensor with one row per prefix (G, ...) into a tensor with one row per sequence (N, ...)."""
        return _select(prefix, self.group, self.count)

    @cached_property
    def one_prefix_each(self) -> "Layout":
        """The layout of the same sequences if each sequence has a separate prefix. Sequence i follows prefix i."""
        return Layout(self.lengths, torch.arange(self.count, device=self.lengths.device))

    def chunks(self, tokens: int) -> Iterator["Chunk"]:
        """Split the layout into chunks of consecutive sequences.

        A chunk has at most `tokens` class tokens. A sequence with more class tokens becomes a separate chunk.
        """
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
