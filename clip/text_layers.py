"""Runs the layers of the text transformer in one of two ways.

`encode_packed` is the fast path. `encode_reference` is the slow path, which calls the `forward` of the modules.
`clip.text.encode` calls one of the two functions. Both functions take prefixes (G, P, width) and packed class tokens
(total, width) that already include positional embeddings. Both functions return the rows of EOT (N, width) after the
last layer, and the rows of the inserted tokens.
"""

import torch

from clip.blocks import Transformer
from clip.inputs import insert_tokens
from clip.packed import PackedRows
from clip.reference import run_transformer
from clip.text_batch import TextBatch, replace_prompts


def encode_packed(
    transformer: Transformer,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
    packing: type[PackedRows],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run all layers on one matrix with the rows of the prefixes and of the class tokens (the fast path).

    Args:
        packing: how the rows are ordered and how attention is computed between them.

    Returns:
        The rows of EOT (N, width) and the rows of the inserted tokens (N, n, width) after the last layer. The rows of
        the inserted tokens are None if `batch.rows` is None.
    """
    heads, inputs = transformer.heads, batch.inputs
    rows = packing.of(batch.layout, *prefix.shape[:2])
    class_tokens = rows.sort(class_tokens)
    x = rows.join(prefix, class_tokens)  # (rows, width)
    *blocks, last = transformer.blocks()
    for layer, block in enumerate(blocks):
        x, rows = _change_input(x, rows, batch, layer)
        adapter = inputs.adapters.get(layer)
        h = None
        if layer == 0 and adapter is None and 0 not in inputs.inserted:
            qkv = block.project_parts([prefix.flatten(0, 1), class_tokens], dim=0)
        else:
            h = block.ln_1(x)
            qkv = block.queries_keys_values(h, adapter)  # (rows, 3 * width)
        x = block.output(x, rows.attend(qkv, heads), adapter, h)
    layer = len(blocks)
    x, rows = _change_input(x, rows, batch, layer)
    adapter = inputs.adapters.get(layer)
    n_first = 1 + inputs.n_inserted if batch.rows else 0  # SOS and the inserted tokens
    kept, attended, h = rows.attend_last(last, last.ln_1(x), heads, adapter, n_first)
    x = last.output(x.index_select(0, kept), attended, adapter, h)
    eot, first = x.split([rows.layout.count, len(x) - rows.layout.count])
    inserted = rows.layout.per_sequence(first.unflatten(0, (-1, n_first))[:, 1:]) if n_first else None
    return rows.unsort(eot), inserted


def _change_input(x: torch.Tensor, rows: PackedRows, batch: TextBatch, layer: int) -> tuple[torch.Tensor, PackedRows]:
    """Put the prompts and the inserted tokens of `layer` into the prefixes.

    If `layer` is the batch's `split_layer`, each sequence first gets a separate copy of its prefix.

    Args:
        x: input of the layer, (rows, width).

    Returns:
        The changed input, and the rows that it has.
    """
    inputs, split_layer = batch.inputs, batch.prompts.split_layer
    # The prompts of layer 0 are already there: `clip.text` has put them into the prefix.
    prompts = batch.prompts.by_layer if layer else {}
    if layer not in prompts and layer not in inputs.inserted:
        return x, rows

    def change(prefix: torch.Tensor) -> torch.Tensor:
        """Change prefixes (G or N, P, width)."""
        prefix = replace_prompts(prefix, prompts, layer, inputs.n_inserted_before(layer))
        return insert_tokens(prefix, inputs, layer)

    layout = rows.layout
    if rows.n_prefixes == 1 and layer != split_layer:
        # The only prefix comes first in x. So all of x can be changed as if it were the prefix, which saves calls.
        changed = change(x[None]).flatten(0, 1)
        return changed, type(rows).of(layout, 1, rows.prefix_length + len(changed) - len(x))
    prefix, class_tokens = rows.split(x)  # (G, P, width), (total, width)
    if layer and layer == split_layer:
        prefix, layout = layout.per_sequence(prefix), layout.one_prefix_each  # (N, P, width)
    prefix = change(prefix)
    rows = type(rows).of(layout, *prefix.shape[:2])
    return rows.join(prefix, class_tokens), rows


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
    padded = class_tokens.new_zeros(layout.count, context_length - prefix.shape[1], class_tokens.shape[1])
    padded = padded.index_put((layout.sequence, layout.offset), class_tokens)  # (N, context length - P, width)
    x = torch.cat([layout.per_sequence(prefix), padded], dim=1)  # (N, context length, width)
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
