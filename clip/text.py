"""The fast text tower: the work that a text feature needs, and no more.

Text attention is causal. So what comes after EOT can't change the feature, and a position before the class name is the
same for all classes. Hence, exactly: sequences end at EOT; what several sequences begin with is computed once, and each
attends to its keys and values; the remaining tokens of all sequences lie packed in one matrix for norms, projections
and MLP, sorted by length: attention takes those of one length at a time, and nothing is padded; at the last layer
only EOT asks.
"""

import ctypes
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from clip.blocks import ResidualAttentionBlock, attend, is_untouched, join_heads, split_heads
from clip.inputs import NO_INPUTS, TowerInputs

if TYPE_CHECKING:
    from clip.model import CLIP


@dataclass
class Bucket:
    """Sequences of the same number of class tokens."""

    length: int
    count: int
    group: torch.Tensor | None  # (count,) which prefix each stands behind

    def behind(self, prefix: torch.Tensor) -> torch.Tensor:
        """(G, ...) -> (count, ...): for every sequence what belongs to its prefix"""
        return prefix.expand(self.count, *prefix.shape[1:]) if self.group is None else prefix[self.group]


class Layout:
    """Where N sequences lie: each behind one of G prefixes, its class tokens (the last is EOT) packed one after another.

    Args:
        lengths: number of class tokens of each sequence, (N,), at least 1.
        group: which prefix each sequence stands behind, (N,); None where there is one for all.
    """

    def __init__(self, lengths: torch.Tensor, group: torch.Tensor | None = None):
        self.count = len(lengths)
        self.offset = _offsets(lengths)  # (total,) how many class tokens come before, in the same sequence
        self.eot = lengths.cumsum(0) - 1  # (N,) packed row of EOT
        self.lengths, self.group = lengths, group
        self.order = lengths.argsort(stable=True)  # (N,) sequences by length, as `buckets` has them
        self.back = self.order.argsort()  # (N,) where each sequence is in that order
        self.rows_by_length = self.rows(self.order)  # (total,) packed rows in that order
        self.eot_by_length = lengths[self.order].cumsum(0) - 1  # (N,)
        sizes = zip(*(t.tolist() for t in lengths[self.order].unique_consecutive(return_counts=True)), strict=True)
        self.buckets, first = [], 0
        for length, count in sizes:
            chosen = self.order[first : first + count]
            self.buckets.append(Bucket(length, count, None if group is None else group[chosen]))
            first += count

    def parts(self, tokens: int) -> Iterator[tuple[slice, slice, "Layout"]]:
        """Consecutive sequences of at most so many class tokens (but at least one sequence): their class tokens' packed
        rows, the prefixes that they stand behind, and their layout."""
        ends, first = self.eot + 1, 0
        while first < self.count:
            start = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(torch.searchsorted(ends, start + tokens, right=True)))
            chosen, groups, group = slice(first, last), slice(None), None
            if self.group is not None:
                group = self.group[chosen]
                groups = slice(int(group.min()), int(group.max()) + 1)
                group = group - groups.start
            yield slice(start, int(ends[last - 1])), groups, Layout(self.lengths[chosen], group)
            first = last

    def rows(self, chosen: torch.Tensor) -> torch.Tensor:
        """Packed rows of some sequences' class tokens, sequence by sequence."""
        lengths = self.lengths[chosen]
        starts = (self.eot + 1 - self.lengths)[chosen]
        return torch.repeat_interleave(starts, lengths) + _offsets(lengths)


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    """0, 1 ... length - 1 of every sequence, one after another."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(starts, lengths)


@dataclass
class Tokens:
    """Token ids of N prompts, cut into what all begin with and what each has of its class_tokens, up to EOT."""

    prefix: torch.Tensor  # (P,)
    class_tokens: torch.Tensor  # (total,)
    layout: Layout

    @classmethod
    def cut(cls, ids: torch.Tensor, start: int | None = None) -> "Tokens":
        """`ids` (N, context length) as `tokenize` makes them: SOS first, EOT the first maximum of the row.

        The prefix has `start` positions: as many as all sequences agree in unless given.
        """
        eot = ids.argmax(dim=-1)  # (N,)
        if start is None:
            same = (ids == ids[0]).all(dim=0).long().cumprod(0)  # (context length,) 1 as long as all agree
            start = min(int(same.sum()), int(eot.min()))
        lengths = eot + 1 - start
        class_tokens = torch.cat([row[start : end + 1] for row, end in zip(ids, eot.tolist(), strict=True)])
        return cls(ids[0, :start], class_tokens, Layout(lengths))

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(self.prefix.to(device), self.class_tokens.to(device), Layout(self.layout.lengths.to(device)))


def encode(
    model: "CLIP",
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    layout: Layout,
    inputs: TowerInputs = NO_INPUTS,
) -> torch.Tensor:
    """Text features (N, embed_dim), not normalised, of N prompts given as token embeddings.

    Args:
        prefix: embeddings of the G prefixes, (G, P, width), without positions; SOS first.
        class_tokens: embeddings of the sequences' class tokens, (total, width), without positions, as `layout` has them.
        inputs: prompts by layer (1 or higher): each (n, width) or (G, n, width), taking positions 1 to n of the prefixes.

    Raises:
        ValueError: more layers of prompts than the tower has, or prompts that the prefix has no room for.
    """
    prompts = inputs.prompts
    if max(prompts, default=0) >= model.transformer.layers:
        raise ValueError(
            f"text prompts at layer {max(prompts)}, but the tower has layers 0 to {model.transformer.layers - 1}"
        )
    if any(prompt.shape[-2] >= prefix.shape[1] for prompt in prompts.values()):
        raise ValueError("text prompts take positions after SOS within the prefix, which is too short")
    ahead = prefix.shape[0] * prefix.shape[1]
    if 0 < model.text_chunk < len(class_tokens) + ahead:
        # Prefixes take their part of the room, as many as there are to an class_tokens token.
        return _in_parts(
            model,
            prefix,
            class_tokens,
            layout,
            prompts,
            model.text_chunk * len(class_tokens) // (len(class_tokens) + ahead),
        )
    return _whole(model, prefix, class_tokens, layout, prompts)


def fitting_chunk(model: "CLIP", free: int) -> int:
    """How many tokens of class names fit in half of so many bytes.

    A power of two, so that it is seldom another on the same machine: parts change results by rounding.
    """
    kept = 18 * 4 * model.transformer.width * model.transformer.layers  # bytes that a training step keeps for a token
    return 2 ** max(8, int(math.log2(free / 2 / kept + 1)))


def _whole(
    model: "CLIP", prefix: torch.Tensor, class_tokens: torch.Tensor, layout: Layout, prompts: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """As `encode`, all at once."""
    positions = model.positional_embedding.to(model.dtype)
    prefix = prefix.to(model.dtype) + positions[: prefix.shape[1]]
    class_tokens = class_tokens.to(model.dtype) + positions[prefix.shape[1] + layout.offset]
    way = _packed if is_untouched(model.transformer) else _plain
    return model.ln_final(way(model, prefix, class_tokens, layout, prompts)) @ model.text_projection.to(model.dtype)


def _in_parts(
    model: "CLIP",
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    layout: Layout,
    prompts: Mapping[int, torch.Tensor],
    tokens: int,
) -> torch.Tensor:
    """As `encode`, sequences of so many class tokens at a time, so that memory doesn't grow with the classes: of a part
    nothing is kept but its features, and the backward pass computes it anew."""
    features = []
    for rows, groups, part in layout.parts(tokens):
        there = {layer: prompt[groups] if prompt.ndim == 3 else prompt for layer, prompt in prompts.items()}
        words = (model, prefix[groups], class_tokens[rows], part, there)
        if torch.is_grad_enabled():
            features.append(checkpoint(_part, *words, use_reentrant=False, preserve_rng_state=False))
        else:
            features.append(_part(*words))
    return torch.cat(features)


def _part(
    model: "CLIP", prefix: torch.Tensor, class_tokens: torch.Tensor, layout: Layout, prompts: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """As `_whole`, after giving back what is free: glibc keeps it in pieces that fit no other part."""
    if (
        class_tokens.device.type == "cpu" and sys.platform == "linux" and len(class_tokens) > 200
    ):  # of less it isn't worth the time
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # other C libraries have none
    return _whole(model, prefix, class_tokens, layout, prompts)


def _packed(
    model: "CLIP", prefix: torch.Tensor, class_tokens: torch.Tensor, layout: Layout, prompts: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """Rows of EOT after the last layer, (N, width), the fast way: sequences by length, so that nothing is padded."""
    class_tokens = class_tokens.index_select(0, layout.rows_by_length)
    blocks = model.transformer.blocks()
    for layer, block in enumerate(blocks[:-1]):
        prefix = _replace(prefix, prompts, layer)
        prefix, class_tokens = _block(block, model.transformer.heads, prefix, class_tokens, layout.buckets)
    prefix = _replace(prefix, prompts, len(blocks) - 1)
    rows = _last_block(blocks[-1], model.transformer.heads, prefix, class_tokens, layout.buckets, layout.eot_by_length)
    return rows.index_select(0, layout.back)


def _block(
    block: ResidualAttentionBlock,
    heads: int,
    prefix: torch.Tensor,  # (G, P, width)
    class_tokens: torch.Tensor,  # (total, width), by length
    buckets: Sequence[Bucket],
) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer over prefixes and class tokens."""
    groups = prefix.shape[:2]
    rows = torch.cat([prefix.flatten(0, 1), class_tokens])  # (G * P + total, width)
    if (
        prefix.requires_grad and not class_tokens.requires_grad
    ):  # at the first layer: no gradient is worked out for frozen words
        ahead, behind = block.project(block.ln_1(prefix.flatten(0, 1))), block.project(block.ln_1(class_tokens))
    else:
        ahead, behind = block.project(block.ln_1(rows)).split([groups.numel(), len(class_tokens)])
    q, k, v = (split_heads(t, heads) for t in ahead.unflatten(0, groups).chunk(3, dim=-1))  # (G, heads, P, ...)
    attended = [join_heads(attend(q, k, v, causal=True)).flatten(0, 1)]
    for bucket, part in zip(buckets, behind.split([b.count * b.length for b in buckets]), strict=True):
        own_q, own_k, own_v = (split_heads(t, heads) for t in part.unflatten(0, (-1, bucket.length)).chunk(3, dim=-1))
        all_k = torch.cat([bucket.behind(k), own_k], dim=2)  # (count, heads, P + length, ...)
        all_v = torch.cat([bucket.behind(v), own_v], dim=2)
        mask = own_q.new_full((bucket.length, all_k.shape[2]), -torch.inf).triu_(groups[1] + 1)
        attended.append(join_heads(attend(own_q, all_k, all_v, mask)).flatten(0, 1))
    ahead, class_tokens = block.finish(rows, torch.cat(attended)).split([groups.numel(), len(class_tokens)])
    return ahead.unflatten(0, groups), class_tokens


def _last_block(
    block: ResidualAttentionBlock,
    heads: int,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    buckets: Sequence[Bucket],
    eot: torch.Tensor,  # (N,) rows of EOT
) -> torch.Tensor:
    """The last layer, of which EOT alone is wanted: (N, width)."""
    groups = prefix.shape[:2]
    h = block.ln_1(torch.cat([prefix.flatten(0, 1), class_tokens]))
    ahead, behind = block.project(h, 1, 3).split([groups.numel(), len(class_tokens)])
    k, v = (split_heads(t, heads) for t in ahead.unflatten(0, groups).chunk(2, dim=-1))
    asking = split_heads(block.project(h.index_select(0, groups.numel() + eot), 0, 1)[:, None], heads)
    attended, sizes = [], [b.count for b in buckets]
    parts = behind.split([b.count * b.length for b in buckets])
    for bucket, part, q in zip(buckets, parts, asking.split(sizes), strict=True):  # q (count, heads, 1, ...)
        own_k, own_v = (split_heads(t, heads) for t in part.unflatten(0, (-1, bucket.length)).chunk(2, dim=-1))
        all_k, all_v = torch.cat([bucket.behind(k), own_k], dim=2), torch.cat([bucket.behind(v), own_v], dim=2)
        attended.append(join_heads(attend(q, all_k, all_v))[:, 0])
    return block.finish(class_tokens.index_select(0, eot), torch.cat(attended))


def _plain(
    model: "CLIP", prefix: torch.Tensor, class_tokens: torch.Tensor, layout: Layout, prompts: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """As `_packed`, but over whole sequences and through the modules as they are, since somebody changed them."""
    whole = Bucket(0, layout.count, layout.group)
    padded = pad_sequence(class_tokens.split(layout.lengths.tolist()), batch_first=True)
    x = torch.cat([whole.behind(prefix), padded], dim=1)
    x = F.pad(x, (0, 0, 0, model.context_length - x.shape[1]))  # (N, context length, width)
    if not prompts:
        x = model.transformer(x.transpose(0, 1)).transpose(0, 1)
    else:
        prompts = {layer: whole.behind(prompt) if prompt.ndim == 3 else prompt for layer, prompt in prompts.items()}
        for layer, block in enumerate(model.transformer.resblocks):
            x = block(_replace(x, prompts, layer).transpose(0, 1)).transpose(0, 1)
    return x[torch.arange(layout.count, device=x.device), prefix.shape[1] + layout.lengths - 1]


def _replace(prefix: torch.Tensor, prompts: Mapping[int, torch.Tensor], layer: int) -> torch.Tensor:
    """`prefix` (G, P, width) with the prompts of `layer` in positions 1 to n."""
    if layer not in prompts:
        return prefix
    prompt = prompts[layer].to(prefix.dtype)
    prompt = prompt.expand(len(prefix), *prompt.shape[-2:])
    return torch.cat([prefix[:, :1], prompt, prefix[:, 1 + prompt.shape[1] :]], dim=1)
