"""Attention of the text tower without padding: one call for the prefixes, and one for each length of the class tokens.

`clip.text_layers` uses this on a CPU, where arithmetic and copies cost more than calls.
"""

from dataclasses import dataclass

import torch

from clip.attention import attend, join_heads, split_heads
from clip.blocks import ResidualAttentionBlock
from clip.inputs import BlockAdapter
from clip.layout import Layout
from clip.packed import LastRows, PackedRows


@dataclass(frozen=True)
class Bucket:
    """Sequences with the same number of class tokens.

    Args:
        length: number of class tokens of each sequence.
        count: number of sequences.
        group: index of the prefix that each sequence follows, (count,); None if all follow the same prefix.
    """

    length: int
    count: int
    group: torch.Tensor | None

    def with_prefix(self, prefix: torch.Tensor, class_tokens: torch.Tensor) -> torch.Tensor:
        """Put the keys or values of each sequence's prefix before those of its class tokens.

        Args:
            prefix: of the prefixes, (G, heads, P, head width).
            class_tokens: of the bucket's class tokens, (count, heads, length, head width).

        Returns:
            Keys or values of whole sequences, (count, heads, P + length, head width).
        """
        prefix = prefix.expand(self.count, -1, -1, -1) if self.group is None else prefix[self.group]
        return torch.cat([prefix, class_tokens], dim=2)


class RowsByLength(PackedRows):
    """Rows whose class tokens are sorted by the length of their sequences, from short to long."""

    def __init__(self, layout: Layout, n_prefixes: int, prefix_length: int):
        super().__init__(layout, n_prefixes, prefix_length)
        order = layout.lengths.argsort(stable=True)  # (N,) indices of the sequences, from short to long
        lengths = layout.lengths[order]
        self.eot = lengths.cumsum(0) - 1
        self.back = order.argsort()  # (N,) position of each sequence in `order`
        self.sorted_tokens = layout.rows(order)  # (total,) packed rows, from short to long sequences
        sizes = zip(*(t.tolist() for t in lengths.unique_consecutive(return_counts=True)), strict=True)
        self.buckets, first = [], 0
        for length, count in sizes:
            chosen = order[first : first + count]
            self.buckets.append(Bucket(length, count, None if layout.group is None else layout.group[chosen]))
            first += count

    def sort(self, class_tokens: torch.Tensor) -> torch.Tensor:
        return class_tokens.index_select(0, self.sorted_tokens)

    def unsort(self, eot: torch.Tensor) -> torch.Tensor:
        return eot.index_select(0, self.back)

    def attend(self, qkv: torch.Tensor, heads: int) -> torch.Tensor:
        prefix, class_tokens = self.split(qkv)  # (G, P, 3 * width), (total, 3 * width)
        q, k, v = (split_heads(part, heads) for part in prefix.chunk(3, dim=-1))  # (G, heads, P, head width)
        attended = [join_heads(attend(q, k, v, causal=True)).flatten(0, 1)]  # (G * P, width)
        for bucket, part in zip(self.buckets, self._by_bucket(class_tokens), strict=True):
            class_q, class_k, class_v = (split_heads(piece, heads) for piece in part.chunk(3, dim=-1))
            all_k, all_v = bucket.with_prefix(k, class_k), bucket.with_prefix(v, class_v)
            # (length, P + length): a class token attends to the whole prefix, to itself and to earlier class tokens.
            mask = q.new_full((bucket.length, all_k.shape[2]), -torch.inf).triu_(self.prefix_length + 1)
            attended.append(join_heads(attend(class_q, all_k, all_v, mask)).flatten(0, 1))  # (count * length, width)
        return torch.cat(attended)

    def attend_last(
        self, block: ResidualAttentionBlock, h: torch.Tensor, heads: int, adapter: BlockAdapter | None, n_first: int
    ) -> LastRows:
        """Compute queries only for the rows that are returned, but keys and values for all rows."""
        kept = self.last_rows(n_first)
        h_last = h.index_select(0, kept)  # (N + G * n_first, width)
        eot, first = block.queries(h_last, adapter).split([self.layout.count, self.n_prefixes * n_first])
        prefix, class_tokens = self.split(block.keys_values(h, adapter))  # (G, P, 2 * width), (total, 2 * width)
        k, v = (split_heads(part, heads) for part in prefix.chunk(2, dim=-1))  # (G, heads, P, head width)
        attended = []
        queries = split_heads(eot[:, None], heads).split([bucket.count for bucket in self.buckets])
        for bucket, part, q in zip(self.buckets, self._by_bucket(class_tokens), queries, strict=True):
            class_k, class_v = (split_heads(piece, heads) for piece in part.chunk(2, dim=-1))
            all_k, all_v = bucket.with_prefix(k, class_k), bucket.with_prefix(v, class_v)
            attended.append(join_heads(attend(q, all_k, all_v))[:, 0])  # (count, width)
        if n_first:
            q = split_heads(first.unflatten(0, (-1, n_first)), heads)  # (G, heads, n_first, head width)
            attended_first = attend(q, k[:, :, :n_first], v[:, :, :n_first], causal=True)
            attended.append(join_heads(attended_first).flatten(0, 1))  # (G * n_first, width)
        return LastRows(kept, torch.cat(attended), h_last)

    def _by_bucket(self, class_tokens: torch.Tensor) -> list[torch.Tensor]:
        """Split class tokens (total, width) by length. Each result is (count, length, width)."""
        parts = class_tokens.split([bucket.count * bucket.length for bucket in self.buckets])
        return [part.unflatten(0, (-1, bucket.length)) for bucket, part in zip(self.buckets, parts, strict=True)]
