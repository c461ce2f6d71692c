"""The fast text tower: it computes only what a text feature needs, and the result is exact.

`CLIP.encode_text` and `CLIP.encode_prompts` call `encode`. Text attention is causal. So tokens after EOT can't change
the feature, and positions before the class name have the same value for all classes. From this follows:

- Sequences end at EOT.
- A shared prefix is computed once. Every sequence attends to its keys and values.
- The class tokens of all sequences are packed in one matrix, sorted by length, for norms, projections and MLP.
  Attention takes the sequences of one length at a time, so nothing is padded.
- At the last layer only EOT has a query.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from clip.blocks import Transformer, is_original
from clip.inputs import NO_INPUTS, Rows, TowerInputs, TowerOutput
from clip.layout import Layout, Tokens
from clip.memory import trim_heap
from clip.text_batch import DeepPrompts, TextBatch, replace_prompts
from clip.text_layers import encode_packed, encode_reference

__all__ = ["Layout", "TextTower", "Tokens", "encode"]

_LARGE_CHUNK = 200  # class tokens; `trim_heap` takes too long to call it before smaller chunks


@dataclass(frozen=True)
class TextTower:
    """The parts of a CLIP that compute a text feature.

    Args:
        positional_embedding: (context length, width).
        projection: (width, embed_dim).
        dtype: the dtype that the tower computes in.
        chunk: tokens that are encoded at once, which bounds the memory; 0: all.
    """

    transformer: Transformer
    positional_embedding: torch.Tensor
    ln_final: nn.Module
    projection: torch.Tensor
    dtype: torch.dtype
    chunk: int = 0


def encode(
    tower: TextTower,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    layout: Layout,
    inputs: TowerInputs = NO_INPUTS,
    rows: Rows | None = None,
) -> TowerOutput:
    """Features of N texts that are given as token embeddings, and the inserted tokens' rows if `rows` asks for them.

    Args:
        prefix: embeddings of the G prefixes, (G, P, width), without positions; SOS first.
        class_tokens: embeddings of the sequences' class tokens, (total, width), without positions, ordered by `layout`.
        rows: "inserted" to return the rows of the inserted tokens too, (N, n, width).

    Raises:
        ValueError: a layer or the rows don't exist, the prefix is too short for the prompts, or the number of prompt
            groups is neither the number of prefixes nor that of sequences.
    """
    inputs.check(tower.transformer.layers, "text")
    if any(prompt.shape[-2] >= prefix.shape[1] for prompt in inputs.prompts.values()):
        raise ValueError("text prompts replace positions after SOS in the prefix, but the prefix is too short")
    if rows == "patches" or (rows == "inserted" and not inputs.inserted):
        raise ValueError(f"the text tower can't return {rows} rows: it has none")
    prompts = DeepPrompts.of(inputs.prompts, len(prefix), layout)
    batch = TextBatch(layout, prompts, inputs, rows)
    n_prefixes = len(prefix) if prompts.split_layer is None else layout.count
    total = len(class_tokens) + n_prefixes * (prefix.shape[1] + inputs.n_inserted)
    if 0 < tower.chunk < total:
        # Prefixes need memory too, so class tokens get their share of the chunk only.
        return _encode_chunked(tower, prefix, class_tokens, batch, tower.chunk * len(class_tokens) // total)
    return _encode_all(tower, prefix, class_tokens, batch)


def _encode_all(
    tower: TextTower,
    prefix: torch.Tensor,
    class_tokens: torch.Tensor,
    batch: TextBatch,
) -> TowerOutput:
    """Encode all sequences at once."""
    layout, prompts = batch.layout, batch.prompts
    prefix = prefix.to(tower.dtype)  # (G, P, width)
    if prompts.split_layer == 0:
        prefix = layout.per_sequence(prefix)  # (N, P, width)
        batch = replace(batch, layout=layout.one_prefix_each)
    prefix = replace_prompts(prefix, prompts.by_layer, layer=0)
    positions = tower.positional_embedding.to(tower.dtype)
    prefix = prefix + positions[: prefix.shape[1]]
    class_tokens = class_tokens.to(tower.dtype) + positions[prefix.shape[1] + layout.offset]
    if is_original(tower.transformer):
        eot, inserted = encode_packed(tower.transformer, prefix, class_tokens, batch)
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
    """Encode chunks of at most `tokens` class tokens, so that memory doesn't grow with the number of classes.

    Activations are recomputed in the backward pass; only the features are kept.
    """
    outputs = []
    for chunk in batch.layout.chunks(tokens):
        arguments = (tower, prefix[chunk.prefixes], class_tokens[chunk.rows], batch.chunk(chunk))
        if torch.is_grad_enabled():
            # An adapter may have dropout, which must draw the same mask again.
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
    """Return the memory of earlier chunks to the system, then encode the sequences of one chunk."""
    if class_tokens.device.type == "cpu" and len(class_tokens) > _LARGE_CHUNK:
        trim_heap()
    return _encode_all(tower, prefix, class_tokens, batch)
