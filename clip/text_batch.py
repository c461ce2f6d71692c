"""What the text tower needs beside embeddings: the layout, the prompts by layer, and the other inputs.

`clip.text.encode` builds a `TextBatch` from the caller's arguments; `clip.text_layers` runs the layers with it. Prompts
with one entry per sequence (TCP) split the shared prefix: from their layer on, each sequence has a prefix of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from clip.inputs import Rows, TowerInputs
from clip.layout import Chunk, Layout


@dataclass(frozen=True)
class DeepPrompts:
    """Prompts by layer, each (n, width), (G, n, width) below `split_layer`, or (N, n, width) from it on.

    Args:
        split_layer: the first layer at which every sequence has its own prefix. None: there are G prefixes throughout.
    """

    by_layer: Mapping[int, torch.Tensor]
    split_layer: int | None

    @classmethod
    def of(cls, prompts: Mapping[int, torch.Tensor], n_prefixes: int, layout: Layout) -> "DeepPrompts":
        """Check the caller's prompts, and find the layer where prompts per sequence start.

        Raises:
            ValueError: prompts have another number of groups than there are prefixes or sequences.
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
        """The prompts of some consecutive sequences and of the prefixes that they follow."""
        by_layer = {
            layer: prompt if prompt.ndim == 2 else prompt[prefixes if self._by_prefix(layer) else sequences]
            for layer, prompt in self.by_layer.items()
        }
        return DeepPrompts(by_layer, self.split_layer)

    def per_sequence(self, layout: Layout) -> Mapping[int, torch.Tensor]:
        """The same prompts by layer, each (n, width) or (N, n, width)."""
        return {
            layer: layout.per_sequence(prompt) if prompt.ndim == 3 and self._by_prefix(layer) else prompt
            for layer, prompt in self.by_layer.items()
        }

    def _by_prefix(self, layer: int) -> bool:
        """Whether prompts with groups have one group per prefix at `layer`, not one per sequence."""
        return self.split_layer is None or layer < self.split_layer


@dataclass(frozen=True)
class TextBatch:
    """N sequences that are encoded in one call; their embeddings are passed beside it."""

    layout: Layout
    prompts: DeepPrompts
    inputs: TowerInputs
    rows: Rows | None  # rows that the caller wants beside the features

    def chunk(self, chunk: Chunk) -> "TextBatch":
        """The batch of one chunk's sequences."""
        prompts = self.prompts.chunk(chunk.sequences, chunk.prefixes)
        return TextBatch(chunk.layout, prompts, self.inputs, self.rows)


def replace_prompts(x: torch.Tensor, prompts: Mapping[int, torch.Tensor], layer: int, skip: int = 0) -> torch.Tensor:
    """Replace positions 1 to n by the prompts of `layer`, if it has any.

    Args:
        x: (sequences or prefixes, length, width).
        skip: number of inserted rows between SOS and the prompts.
    """
    if layer not in prompts:
        return x
    prompt = prompts[layer].to(x.dtype)
    prompt = prompt.expand(len(x), *prompt.shape[-2:])  # (sequences, n, width)
    return torch.cat([x[:, : 1 + skip], prompt, x[:, 1 + skip + prompt.shape[1] :]], dim=1)
