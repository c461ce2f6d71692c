"""The fast text tower. It skips all computations that can't affect a text feature, so the result is still exact.

`CLIP.encode_text` and `CLIP.encode_prompts` call `encode`. Text attention is causal. So tokens after EOT can't change
the feature, and positions before the class name have the same value for all classes. The tower uses this as follows:

- Sequences end at EOT.
- A shared prefix is computed once. All its sequences attend to the same keys and values of the prefix.
- The class tokens of all sequences are packed in one matrix, sorted by length. Norms, projections and the MLP process
  the whole matrix at once. The attention is computed for sequences of equal length together, so no padding is needed.
- At the last layer, queries are computed only for EOT (and for the inserted tokens, if their rows are wanted).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from clip.blocks import Transformer, is_original
from clip.by_length import RowsByLength
from clip.inputs import NO_INPUTS, Rows, TowerInputs, TowerOutput
from clip.layout import Layout, Tokens
from clip.memory import trim_heap
from clip.packed import PackedRows
from clip.padded import PaddedRows
from clip.reference import count_layers
from clip.sharing import Sharing, own_random_numbers
from clip.text_batch import DeepPrompts, TextBatch, replace_prompts
from clip.text_layers import encode_packed, encode_reference

__all__ = ["Layout", "TextAttention", "TextTower", "Tokens", "encode"]

#: How attention of the text tower is computed: see `packing_for`.
TextAttention = Literal["auto", "padded", "by_length"]
_LARGE_CHUNK = 200  # `trim_heap` is slow, so it is only called before chunks with more class tokens than this


@dataclass(frozen=True)
class TextTower:
    """The parts of a CLIP that are needed to compute text features.

    Args:
        layers: number of blocks with which the transformer was built.
        positional_embedding: (context length, width).
        projection: (width, embed_dim).
        dtype: dtype in which the tower computes.
        chunk: maximum number of tokens that are encoded at once, to save memory. 0: no limit.
        attention: how attention is computed, see `packing_for`.
        sharing: the processes that share the work. Each of them encodes a part of the texts. None: one process.
    """

    transformer: Transformer
    layers: int
    positional_embedding: torch.Tensor
    ln_final: nn.Module
    projection: torch.Tensor
    dtype: torch.dtype
    chunk: int = 0
    attention: TextAttention = "auto"
    sharing: Sharing | None = None


def packing_for(device: torch.device, attention: TextAttention) -> type[PackedRows]:
    """Return how to compute the attention: padded, in one call for a layer; or without padding, one length at a time.

    Both give the same results, except for rounding. With "auto" the device decides. On a GPU, the number of calls
    limits the speed of a step, so "auto" pads the sequences. On a CPU, arithmetic and copies limit the speed.
    """
    if attention == "auto":
        attention = "by_length" if device.type == "cpu" else "padded"
    return RowsByLength if attention == "by_length" else PaddedRows


def encode(
    tower: TextTower,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    layout: Layout,
    inputs: TowerInputs = NO_INPUTS,
    rows: Rows | None = None,
) -> TowerOutput:
    """Encode N texts that are given as token embeddings.

    Args:
        prefix: token embeddings of the G prefixes, (G, P, width). Position 0 is SOS. Positional embeddings must
            not be included, because this function adds them.
        class_tokens: token embeddings of the sequences' class tokens, (total, width), packed as `layout` describes.
            Positional embeddings must not be included here either.
        rows: if "inserted", the rows of the inserted tokens (N, n, width) are returned too. If None, only features are
            returned.

    Raises:
        ValueError: `inputs` has a layer that the tower doesn't have; or the wanted rows don't exist; or the prefix is
            too short for the prompts; or a layer has prompts (k, n, width) where k is neither 1, nor the number of
            prefixes, nor the number of sequences.
    """
    if not inputs.is_empty:
        inputs.check(count_layers(tower.transformer, tower.layers), "text")
    if any(prompt.shape[-2] >= prefix.shape[1] for prompt in inputs.prompts.values()):
        raise ValueError("the prefix is too short, because the text prompts replace more tokens than it has after SOS")
    if rows == "patches" or (rows == "inserted" and not inputs.inserted):
        raise ValueError(f"the text tower can't return {rows} rows, because it has no such rows")
    prompts = DeepPrompts.of(inputs.prompts, len(prefix), layout)
    batch = TextBatch(layout, prompts, inputs, rows)
    if tower.sharing is None or layout.count < tower.sharing.size:  # too few texts to share: each process encodes all
        return _encode_own(tower, prefix, class_tokens, batch)
    return _encode_shared(tower, prefix, class_tokens, batch, tower.sharing)


def _encode_shared(
    tower: TextTower, prefix: torch.Tensor, class_tokens: torch.Tensor, batch: TextBatch, sharing: Sharing
) -> TowerOutput:
    """Encode this process's part of the sequences, and gather the outputs of all processes."""
    parts = batch.layout.parts(sharing.size, _prefix_tokens(prefix, batch) / batch.layout.count)
    part = sharing.own(parts)
    with own_random_numbers(sharing, batch.inputs, prefix.device):
        own = _encode_own(tower, prefix[part.prefixes], class_tokens[part.rows], batch.chunk(part))
    counts = [each.layout.count for each in parts]
    rows = None if own.rows is None else sharing.gather(own.rows, counts)
    return TowerOutput(sharing.gather(own.features, counts), rows)


def _encode_own(tower: TextTower, prefix: torch.Tensor, class_tokens: torch.Tensor, batch: TextBatch) -> TowerOutput:
    """Encode sequences in this process, in chunks if `tower.chunk` limits the number of tokens."""
    total = len(class_tokens) + _prefix_tokens(prefix, batch)
    if 0 < tower.chunk < total:
        # `tower.chunk` limits the sum of prefix tokens and class tokens. Pass on the share for class tokens.
        return _encode_chunked(tower, prefix, class_tokens, batch, tower.chunk * len(class_tokens) // total)
    return _encode_all(tower, prefix, class_tokens, batch)


def _prefix_tokens(prefix: torch.Tensor, batch: TextBatch) -> int:
    """Return the number of tokens of all prefixes (G, P, width), or of N prefixes if each sequence gets a copy."""
    n_prefixes = len(prefix) if batch.prompts.split_layer is None else batch.layout.count
    return n_prefixes * (prefix.shape[1] + batch.inputs.n_inserted)


def _encode_all(
    tower: TextTower,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
) -> TowerOutput:
    """Encode all sequences at once."""
    batch = batch.cast(tower.dtype)
    layout, prompts = batch.layout, batch.prompts
    prefix = prefix.to(tower.dtype)  # (G, P, width)
    if prompts.split_layer == 0:
        prefix = layout.per_sequence(prefix)  # (N, P, width)
        batch = replace(batch, layout=layout.one_prefix_each)
    prefix = replace_prompts(prefix, prompts.by_layer, layer=0)
    positions = tower.positional_embedding.to(tower.dtype)
    of_prefix, of_class_tokens = positions[: prefix.shape[1]], positions[prefix.shape[1] :]
    prefix = prefix + of_prefix
    class_tokens = class_tokens.to(tower.dtype) + of_class_tokens.index_select(0, layout.offset)
    if is_original(tower.transformer):
        packing = packing_for(prefix.device, tower.attention)
        eot, inserted = encode_packed(tower.transformer, prefix, class_tokens, batch, packing)
    else:
        eot, inserted = encode_reference(tower.transformer, len(positions), prefix, class_tokens, batch)
    features = tower.ln_final(eot) @ tower.projection.to(tower.dtype)  # (N, embed_dim)
    return TowerOutput(features, None if inserted is None else tower.ln_final(inserted))


def _encode_chunked(
    tower: TextTower,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
    tokens: int,
) -> TowerOutput:
    """Encode the sequences in chunks, so that memory doesn't grow with the number of classes.

    Only the output of each chunk is kept. The activations are recomputed in the backward pass.

    Args:
        tokens: maximum number of class tokens in a chunk.
    """
    outputs = []
    for chunk in batch.layout.chunks(tokens):
        arguments = (tower, prefix[chunk.prefixes], class_tokens[chunk.rows], batch.chunk(chunk))
        if torch.is_grad_enabled():
            # An adapter may have dropout. The recomputation must then use the same dropout mask.
            keep_rng = bool(batch.inputs.adapters)
            outputs.append(checkpoint(_encode_chunk, *arguments, use_reentrant=False, preserve_rng_state=keep_rng))
        else:
            outputs.append(_encode_chunk(*arguments))
    features = torch.cat([output.features for output in outputs])  # (N, embed_dim)
    rows = [output.rows for output in outputs if output.rows is not None]  # each (sequences of the chunk, n, width)
    return TowerOutput(features, torch.cat(rows) if rows else None)


def _encode_chunk(
    tower: TextTower,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
) -> TowerOutput:
    """Encode the sequences of one chunk. Before a large chunk on a CPU, give freed memory back to the system."""
    if class_tokens.device.type == "cpu" and len(class_tokens) > _LARGE_CHUNK:
        trim_heap()
    return _encode_all(tower, prefix, class_tokens, batch)
