"""What a method passes to a tower beside images or texts: prompts, inserted tokens and adapters, by layer.

Methods build a `TowerInputs` and pass it to `CLIP.encode_image`, `encode_text` or `encode_prompts`. Only the towers
read it. Layers count from 0, and an entry changes the input of its layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

#: The linear maps of an attention: queries, keys, values and the output projection.
Projection = Literal["q", "k", "v", "out"]
#: Rows that a tower can return beside its feature.
Rows = Literal["inserted", "patches"]


class TowerOutput(NamedTuple):
    """Features (N, embed_dim), not normalised, and the other rows that the caller asked for (N, n, width).

    The rows are normed (`ln_post` or `ln_final`) but not projected. They are None if the caller asked for none.
    """

    features: torch.Tensor
    rows: torch.Tensor | None = None


class BlockAdapter:
    """Base class for an adapter of one block. Both methods return None, so a subclass overrides what it needs.

    An adapter must be row-wise: a row of the result depends on the same row of `h` only. The towers rely on this. They
    pack the rows of many sequences in one matrix, and at the last layer they compute the rows of EOT or CLS only.

    `h` has the shape (..., width) with any leading dimensions. The tower casts the result to its own dtype.
    An adapter with parameters also derives from nn.Module: `class Adapter(BlockAdapter, nn.Module)`.
    """

    def beside(self, h: torch.Tensor) -> torch.Tensor | None:
        """Rows (..., width) that are added to the block's output; `h` is the output of the block's `ln_1`."""
        return None

    def delta(self, projection: Projection, h: torch.Tensor) -> torch.Tensor | None:
        """Rows (..., width) that are added to a projection of the attention.

        Args:
            projection: "q", "k" or "v", where `h` is the output of `ln_1`, or "out", where `h` is the attention's
                output before `out_proj`.
        """
        return None


@dataclass(frozen=True)
class TowerInputs:
    """A method's inputs to one tower. The default is empty: the tower computes CLIP's own features.

    Args:
        prompts: layer -> prompts. Layers may have gaps; after its layer a prompt runs through the blocks.
            Text tower: (n, width), (G, n, width) with one prompt for each of G prefixes, or (N, n, width) with one for
            each of N sequences. They replace positions 1 to n. At layer 0 they replace the caller's embeddings, so they
            get positional embeddings.
            Image tower: (n, width). At layer 0 they are appended after the patches, before `ln_pre` and without
            positional embedding. At a later layer they replace the earlier prompts, or are appended if there are none.
        inserted: layer -> tokens (n, width). At the lowest layer the tokens are inserted after CLS or SOS, without
            positional embedding. At the other layers of the mapping they replace those n rows (MMRL, arXiv 2503.08497).
        blend: share of the new tokens where `inserted` replaces rows: blend * new + (1 - blend) * old (MMRL++).
        adapters: layer -> adapter of that layer's block.
    """

    prompts: Mapping[int, torch.Tensor] = field(default_factory=dict)
    inserted: Mapping[int, torch.Tensor] = field(default_factory=dict)
    blend: float = 1.0
    adapters: Mapping[int, BlockAdapter] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the tower computes CLIP's own features."""
        return not (self.prompts or self.inserted or self.adapters)

    @property
    def n_inserted(self) -> int:
        """Number of rows by which `inserted` lengthens a sequence."""
        return next((len(tokens) for tokens in self.inserted.values()), 0)

    def n_inserted_before(self, layer: int) -> int:
        """Number of inserted rows in the input of `layer`, before this layer's own changes."""
        return self.n_inserted if self.inserted and min(self.inserted) < layer else 0

    def n_prompts_before(self, layer: int) -> int:
        """Number of prompts that earlier layers appended to the image tower's input of `layer`."""
        earlier = [number for number in self.prompts if number < layer]
        return self.prompts[max(earlier)].shape[-2] if earlier else 0

    def check(self, layers: int, tower: str) -> None:
        """Check the layers and shapes against a tower with `layers` blocks; `tower` is its name for the message.

        Raises:
            ValueError: a layer doesn't exist in the tower, or inserted tokens differ in number between layers.
        """
        for name, by_layer in (
            ("prompts", self.prompts),
            ("inserted tokens", self.inserted),
            ("adapters", self.adapters),
        ):
            for layer in by_layer:
                if not 0 <= layer < layers:
                    raise ValueError(f"{tower} {name} at layer {layer}, but the tower has layers 0 to {layers - 1}")
        if len({len(tokens) for tokens in self.inserted.values()}) > 1:
            raise ValueError(f"{tower} inserted tokens: every layer needs the same number of tokens")


NO_INPUTS = TowerInputs()


def insert_tokens(x: torch.Tensor, inputs: TowerInputs, layer: int) -> torch.Tensor:
    """Insert the tokens of `layer` after the first row of each sequence, or replace those of an earlier layer.

    Args:
        x: (sequences, length, width), the input of `layer`.
    """
    if layer not in inputs.inserted:
        return x
    new = inputs.inserted[layer].to(x.dtype).expand(len(x), -1, -1)  # (sequences, n, width)
    n_old = inputs.n_inserted_before(layer)
    if n_old and inputs.blend != 1:
        new = inputs.blend * new + (1 - inputs.blend) * x[:, 1 : 1 + n_old]
    return torch.cat([x[:, :1], new, x[:, 1 + n_old :]], dim=1)
