"""Defines `TextBatch`: the text tower's layout, prompts and other inputs, but no token embeddings.

`clip.text.encode` builds a `TextBatch` from its arguments, and `clip.text_layers` runs the layers with it. Some
methods, such as TCP, have separate prompts for each sequence. From the first layer with such prompts on, sequences
can't share a prefix, so each sequence gets a copy of its prefix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from clip.inputs import Rows, TowerInputs, cast_together
from clip.layout import Chunk, Layout


@dataclass(frozen=True)
class DeepPrompts:
    """Holds the prompts of each layer of the text tower.

    Args:
        by_layer: {layer: prompts}. The shape is (n, width) if all sequences have the same prompts. Otherwise, layers
            before `split_layer` have prompts (G, n, width), with n prompts for each prefix. Layers from `split_layer`
            on have prompts (N, n, width), with n prompts for each sequence.
        split_layer: the first layer at which each sequence has a separate prefix; None if the G prefixes are shared at
            all layers.
    """

    by_layer: Mapping[int, torch.Tensor]
    split_layer: int | None

    @classmethod
    def of(cls, prompts: Mapping[int, torch.Tensor], n_prefixes: int, layout: Layout) -> "DeepPrompts":
        """Check the caller's prompts, and find the first layer with separate prompts for each sequence.

        Raises:
            ValueError: a layer has prompts (k, n, width) where k is neither 1, nor the number of prefixes, nor the
                number of sequences.
        """
        per_sequence = []
        for layer, prompt in prompts.items():
            if prompt.ndim == 3 and len(prompt) not in (1, n_prefixes):
                if len(prompt) != layout.count:
                    raise ValueError(
                        f"text prompts at layer {layer} have {len(prompt)} groups, but there are {n_prefixes} prefixes "
                        f"and {layout.count} sequences"
                    )
                per_sequence.append(layer)
        split = min(per_sequence, default=None)
        by_layer = {}
        for layer, prompt in prompts.items():
            prompt = prompt[0] if prompt.ndim == 3 and len(prompt) == 1 else prompt
            if prompt.ndim == 3 and layer not in per_sequence and split is not None and layer >= split:
                prompt = layout.per_sequence(prompt)  # (G, n, width) -> (N, n, width)
            by_layer[layer] = prompt
        return cls(by_layer, split)

    def chunk(self, sequences: slice, prefixes: slice) -> "DeepPrompts":
        """Return the prompts for some consecutive sequences and their prefixes."""
        by_layer = {
            layer: prompt if prompt.ndim == 2 else prompt[prefixes if self._by_prefix(layer) else sequences]
            for layer, prompt in self.by_layer.items()
        }
        return DeepPrompts(by_layer, self.split_layer)

    def per_sequence(self, layout: Layout) -> Mapping[int, torch.Tensor]:
        """Return {layer: prompts}, with prompts (N, n, width) or (n, width).

        Prompts (G, n, width) are replaced by prompts (N, n, width). All other prompts are returned as they are.
        """
        return {
            layer: layout.per_sequence(prompt) if prompt.ndim == 3 and self._by_prefix(layer) else prompt
            for layer, prompt in self.by_layer.items()
        }

    def _by_prefix(self, layer: int) -> bool:
        """Return True if 3-D prompts of `layer` are (G, n, width), and False if the prompts are (N, n, width)."""
        return self.split_layer is None or layer < self.split_layer


@dataclass(frozen=True)
class TextBatch:
    """Inputs for N sequences that are encoded in one call. The token embeddings are passed separately."""

    layout: Layout
    prompts: DeepPrompts
    inputs: TowerInputs
    rows: Rows | None  # rows to return in addition to the features; None: only features

    def cast(self, dtype: torch.dtype) -> "TextBatch":
        """Return the batch with its prompts and inserted tokens in `dtype`."""
        prompts = DeepPrompts(cast_together(self.prompts.by_layer, dtype), self.prompts.split_layer)
        inputs = replace(self.inputs, inserted=cast_together(self.inputs.inserted, dtype))
        return TextBatch(self.layout, prompts, inputs, self.rows)

    def chunk(self, chunk: Chunk) -> "TextBatch":
        """Return the part of the batch that belongs to the sequences of a chunk."""
        prompts = self.prompts.chunk(chunk.sequences, chunk.prefixes)
        return TextBatch(chunk.layout, prompts, self.inputs, self.rows)


def replace_prompts(x: torch.Tensor, prompts: Mapping[int, torch.Tensor], layer: int, skip: int = 0) -> torch.Tensor:
    """Replace positions 1 to n by the n prompts of `layer`. If the layer has no prompts, return `x` unchanged.

    Args:
        x: (sequences or prefixes, length, width).
        prompts: {layer: prompts}, in the dtype of x.
        skip: number of inserted rows between SOS and the prompts. The inserted rows are kept, so the prompts replace
            positions skip + 1 to skip + n.
    """
    if layer not in prompts:
        return x
    prompt = prompts[layer]
    prompt = (prompt[None] if prompt.ndim == 2 else prompt).expand(len(x), -1, -1)  # (sequences or prefixes, n, width)
    n = prompt.shape[1]
    before, _, after = x.split([1 + skip, n, x.shape[1] - 1 - skip - n], dim=1)
    return torch.cat([before, prompt, after], dim=1)
