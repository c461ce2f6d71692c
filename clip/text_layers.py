"""Runs the layers of the text transformer in one of two ways.

`encode_packed` is the fast path. `encode_reference` is the slow path, which calls the `forward` of the modules.
`clip.text.encode` calls one of the two functions. Both functions take prefixes (G, P, width) and packed class tokens
(total, width) that already include positional embeddings. Both functions return the rows of EOT (N, width) after the
last layer, and the rows of the inserted tokens.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from clip.blocks import ResidualAttentionBlock, Transformer, attend, join_heads, split_heads
from clip.inputs import BlockAdapter, insert_tokens
from clip.layout import Bucket, Layout
from clip.reference import run_transformer
from clip.text_batch import TextBatch, replace_prompts


def encode_packed(
    transformer: Transformer,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run all layers on packed class tokens (the fast path).

    Returns:
        The rows of EOT (N, width) and the rows of the inserted tokens (N, n, width) after the last layer. The rows of
        the inserted tokens are None if `batch.rows` is None.
    """
    heads, layout, inputs = transformer.heads, batch.layout, batch.inputs
    class_tokens = class_tokens.index_select(0, layout.rows_by_length)
    *blocks, last = transformer.blocks()
    for layer, block in enumerate(blocks):
        prefix, layout = _change_input(prefix, layout, batch, layer)
        prefix, class_tokens = _block(block, heads, prefix, class_tokens, layout.buckets, inputs.adapters.get(layer))
    layer = len(blocks)
    prefix, layout = _change_input(prefix, layout, batch, layer)
    n_rows = inputs.n_inserted if batch.rows else 0
    eot, inserted = _last_block(last, heads, prefix, class_tokens, layout, inputs.adapters.get(layer), n_rows)
    return eot.index_select(0, layout.back), None if inserted is None else layout.per_sequence(inserted)


def _change_input(prefix: torch.Tensor, layout: Layout, batch: TextBatch, layer: int) -> tuple[torch.Tensor, Layout]:
    """Put the prompts and the inserted tokens of `layer` into the prefix.

    If `layer` is the batch's `split_layer`, each sequence first gets a separate copy of its prefix.

    Returns:
        The new prefix (G or N, P, width), and the layout that belongs to the new prefix.
    """
    if layer:  # the prompts of layer 0 are already there: `clip.text` has put them into the prefix
        if layer == batch.prompts.split_layer:
            prefix, layout = layout.per_sequence(prefix), layout.one_prefix_each  # (N, P, width)
        skip = batch.inputs.n_inserted_before(layer)
        prefix = replace_prompts(prefix, batch.prompts.by_layer, layer, skip)
    return insert_tokens(prefix, batch.inputs, layer), layout


def _block(
    block: ResidualAttentionBlock,
    heads: int,
    prefix: torch.Tensor,  # (G, P, width)
    class_tokens: torch.Tensor,  # (total, width), sorted by length
    buckets: Sequence[Bucket],
    adapter: BlockAdapter | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run one layer on the prefixes and the class tokens."""
    groups = prefix.shape[:2]  # (G, P)
    sizes = [groups.numel(), len(class_tokens)]
    x = torch.cat([prefix.flatten(0, 1), class_tokens])  # (G * P + total, width)
    h = None
    if adapter is None and prefix.requires_grad and not class_tokens.requires_grad:
        # This is usually the first layer. The class tokens need no gradient. Separate calls avoid computing one.
        prefix_qkv = block.queries_keys_values(block.ln_1(prefix.flatten(0, 1)))  # (G * P, 3 * width)
        class_qkv = block.queries_keys_values(block.ln_1(class_tokens))  # (total, 3 * width)
    else:
        h = block.ln_1(x)
        prefix_qkv, class_qkv = block.queries_keys_values(h, adapter).split(sizes)
    # q, k and v are (G, heads, P, head width).
    q, k, v = (split_heads(part, heads) for part in prefix_qkv.unflatten(0, groups).chunk(3, dim=-1))
    attended = [join_heads(attend(q, k, v, causal=True)).flatten(0, 1)]  # (G * P, width)
    parts = class_qkv.split([bucket.count * bucket.length for bucket in buckets])  # each (count * length, 3 * width)
    for bucket, part in zip(buckets, parts, strict=True):
        part = part.unflatten(0, (-1, bucket.length))  # (count, length, 3 * width)
        class_q, class_k, class_v = (split_heads(piece, heads) for piece in part.chunk(3, dim=-1))
        all_k = torch.cat([bucket.per_sequence(k), class_k], dim=2)  # (count, heads, P + length, head width)
        all_v = torch.cat([bucket.per_sequence(v), class_v], dim=2)
        # (length, P + length): a class token attends to the whole prefix, to itself and to earlier class tokens.
        mask = class_q.new_full((bucket.length, all_k.shape[2]), -torch.inf).triu_(groups[1] + 1)
        attended.append(join_heads(attend(class_q, all_k, all_v, mask)).flatten(0, 1))  # (count * length, width)
    x = block.output(x, torch.cat(attended), adapter, h)
    prefix, class_tokens = x.split(sizes)
    return prefix.unflatten(0, groups), class_tokens


def _last_block(
    block: ResidualAttentionBlock,
    heads: int,
    prefix: torch.Tensor,  # (G, P, width)
    class_tokens: torch.Tensor,  # (total, width), sorted by length
    layout: Layout,
    adapter: BlockAdapter | None,
    n_rows: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run the last layer. Queries are computed only for the rows that are returned.

    Returns:
        The rows of EOT (N, width), with the sequences sorted by length; and the rows of the first `n_rows` tokens after
        SOS, (G, n_rows, width), or None if `n_rows` is 0.
    """
    groups, buckets = prefix.shape[:2], layout.buckets
    h = block.ln_1(torch.cat([prefix.flatten(0, 1), class_tokens]))  # (G * P + total, width)
    prefix_kv, class_kv = block.keys_values(h, adapter).split([groups.numel(), len(class_tokens)])
    # k and v are (G, heads, P, head width).
    k, v = (split_heads(part, heads) for part in prefix_kv.unflatten(0, groups).chunk(2, dim=-1))
    h_eot = h.index_select(0, groups.numel() + layout.eot_by_length)  # (N, width)
    eot_queries = split_heads(block.queries(h_eot, adapter)[:, None], heads)  # (N, heads, 1, head width)
    attended = []
    parts = class_kv.split([bucket.count * bucket.length for bucket in buckets])  # each (count * length, 2 * width)
    queries = eot_queries.split([bucket.count for bucket in buckets])  # each (count, heads, 1, head width)
    for bucket, part, q in zip(buckets, parts, queries, strict=True):
        part = part.unflatten(0, (-1, bucket.length))  # (count, length, 2 * width)
        class_k, class_v = (split_heads(piece, heads) for piece in part.chunk(2, dim=-1))
        all_k = torch.cat([bucket.per_sequence(k), class_k], dim=2)  # (count, heads, P + length, head width)
        all_v = torch.cat([bucket.per_sequence(v), class_v], dim=2)
        attended.append(join_heads(attend(q, all_k, all_v))[:, 0])  # (count, width)
    x_eot = class_tokens.index_select(0, layout.eot_by_length)  # (N, width)
    eot = block.output(x_eot, torch.cat(attended), adapter, h_eot)
    if not n_rows:
        return eot, None
    first = slice(0, 1 + n_rows)  # SOS and the inserted tokens
    h_first = h[: groups.numel()].unflatten(0, groups)[:, first]  # (G, 1 + n_rows, width)
    q = split_heads(block.queries(h_first, adapter), heads)  # (G, heads, 1 + n_rows, head width)
    attended_first = join_heads(attend(q, k[:, :, first], v[:, :, first], causal=True))  # (G, 1 + n_rows, width)
    return eot, block.output(prefix[:, first], attended_first, adapter, h_first)[:, 1:]


def encode_reference(
    transformer: Transformer,
    context_length: int,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute the same results as `encode_packed`, but call the modules' `forward` on whole sequences.

    This function is used if a user replaced or hooked the transformer or one of its submodules.
    """
    layout, inputs = batch.layout, batch.inputs
    padded = pad_sequence(class_tokens.split(layout.lengths.tolist()), batch_first=True)  # (N, longest, width)
    x = torch.cat([layout.per_sequence(prefix), padded], dim=1)  # (N, P + longest, width)
    x = F.pad(x, (0, 0, 0, context_length - x.shape[1]))  # (N, context length, width)
    prompts = batch.prompts.per_sequence(layout)

    def change_input(x: torch.Tensor, layer: int) -> torch.Tensor:
        """Apply the inputs of `layer` to x (length, N, width). Inserted tokens make the result longer."""
        x = x.transpose(0, 1)  # (N, length, width)
        if layer:  # the prompts of layer 0 are already in x
            x = replace_prompts(x, prompts, layer, inputs.n_inserted_before(layer))
        return insert_tokens(x, inputs, layer).transpose(0, 1)

    x = x.transpose(0, 1)  # (context length, N, width)
    x = run_transformer(transformer, x, change_input, inputs).transpose(0, 1)  # (N, context length + inserted, width)
    eot = prefix.shape[1] + inputs.n_inserted + layout.lengths - 1  # (N,) position of EOT
    inserted = x[:, 1 : 1 + inputs.n_inserted] if batch.rows else None
    return x[torch.arange(layout.count, device=x.device), eot], inserted
