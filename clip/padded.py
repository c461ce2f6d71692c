"""Attention of the text tower in one call: all sequences are padded to the length of the longest.

`clip.text_layers` uses this on a GPU, where a call costs more than the arithmetic of some padding. Only the attention
sees the padding: norms, projections and the MLP run on the packed rows. In the attention, a sequence is its prefix, its
class tokens, and then padding. Attention is causal, so no token attends to the padding, and no mask is needed.
"""

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from clip.attention import attend, join_heads, split_heads
from clip.blocks import ResidualAttentionBlock
from clip.inputs import BlockAdapter
from clip.layout import Layout
from clip.packed import LastRows, PackedRows


class PaddedRows(PackedRows):
    """Rows whose class tokens are ordered as the layout packs them. Its index tensors pad the rows and undo this."""

    def __init__(self, layout: Layout, n_prefixes: int, prefix_length: int):
        super().__init__(layout, n_prefixes, prefix_length)
        self.eot = layout.eot
        device, count = layout.lengths.device, layout.count
        group = torch.zeros_like(layout.lengths) if layout.group is None else layout.group  # (N,)
        position = torch.arange(prefix_length, device=device)
        # Row at each padded position, (N * padded length,). At the padding it is row 0, but any row would do.
        prefix_row = group[:, None] * prefix_length + position  # (N, P)
        class_row = torch.zeros(count, layout.longest, dtype=torch.long, device=device)
        class_row[layout.sequence, layout.offset] = self.n_prefix_rows + torch.arange(len(layout.offset), device=device)
        self.row = torch.cat([prefix_row, class_row], dim=1).flatten()
        # Padded position of each row, (rows,). A shared prefix is taken from the first sequence that follows it.
        self.padded_length = prefix_length + layout.longest
        leader = torch.zeros(n_prefixes, dtype=torch.long, device=device)  # (G,) 0 for a prefix without a sequence
        leader.scatter_reduce_(0, group, torch.arange(count, device=device), "amin", include_self=False)
        prefix_place = leader[:, None] * self.padded_length + position  # (G, P)
        class_place = layout.sequence * self.padded_length + prefix_length + layout.offset  # (total,)
        self.place = torch.cat([prefix_place.flatten(), class_place])
        self.is_place = torch.zeros(len(self.row), 1, dtype=torch.bool, device=device)  # (N * padded length, 1)
        self.is_place[self.place] = True
        self.one_prefix_each = count == n_prefixes == len(group.unique())
        self.group = group
        self._followers: dict[torch.dtype, torch.Tensor] = {}  # see `_members`
        self._last_place: dict[int, torch.Tensor] = {}  # padded positions of `last_rows`

    def attend(self, qkv: torch.Tensor, heads: int) -> torch.Tensor:
        return _Unpad.apply(self._attend_padded(qkv, heads), self)

    def attend_last(
        self, block: ResidualAttentionBlock, h: torch.Tensor, heads: int, adapter: BlockAdapter | None, n_first: int
    ) -> LastRows:
        """Compute queries for all rows, because this takes fewer calls than to select some rows."""
        kept = self.last_rows(n_first)
        if n_first not in self._last_place:
            self._last_place[n_first] = self.place[kept]
        padded = self._attend_padded(block.queries_keys_values(h, adapter), heads)
        return LastRows(kept, padded.index_select(0, self._last_place[n_first]))

    def _attend_padded(self, qkv: torch.Tensor, heads: int) -> torch.Tensor:
        """Pad the rows (rows, 3 * width), and compute the attention (N * padded length, width)."""
        padded = _Pad.apply(qkv, self).unflatten(0, (-1, self.padded_length))  # (N, padded length, 3 * width)
        q, k, v = (split_heads(part, heads) for part in padded.chunk(3, dim=-1))
        return join_heads(attend(q, k, v, causal=True)).flatten(0, 1)

    def sum_places(self, padded: torch.Tensor) -> torch.Tensor:
        """Sum the values of each row over all its padded positions: (N * padded length, width) -> (rows, width)"""
        if self.one_prefix_each:  # then each row has only one position
            return padded.index_select(0, self.place)
        prefix = padded.unflatten(0, (-1, self.padded_length))[:, : self.prefix_length].flatten(1)  # (N, P * width)
        # A matrix product sums in float32 and in a fixed order, unlike `index_add`.
        prefix = self._members(padded.dtype) @ prefix  # (G, P * width)
        return torch.cat([prefix.view(-1, padded.shape[1]), padded.index_select(0, self.place[self.n_prefix_rows :])])

    def _members(self, dtype: torch.dtype) -> torch.Tensor:
        """Return a matrix (G, N) with 1 where the sequence follows the prefix, and 0 elsewhere."""
        if dtype not in self._followers:
            prefixes = torch.arange(self.n_prefixes, device=self.group.device)
            self._followers[dtype] = (prefixes[:, None] == self.group).to(dtype)
        return self._followers[dtype]


class _Pad(torch.autograd.Function):
    """Gathers rows (rows, width) at their padded positions (N * padded length, width)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, rows: PaddedRows) -> torch.Tensor:
        ctx.rows = rows  # type: ignore[attr-defined]
        return x.index_select(0, rows.row)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.rows.sum_places(grad), None  # type: ignore[attr-defined]


class _Unpad(torch.autograd.Function):
    """Takes each row (rows, width) from its padded position (N * padded length, width)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, rows: PaddedRows) -> torch.Tensor:
        ctx.rows = rows  # type: ignore[attr-defined]
        return x.index_select(0, rows.place)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        rows: PaddedRows = ctx.rows  # type: ignore[attr-defined]
        return grad.index_select(0, rows.row) * rows.is_place, None
