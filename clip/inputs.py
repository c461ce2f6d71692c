"""Prompts, inserted tokens and adapters: the inputs that a method passes to a tower in addition to images or texts.

Methods build a `TowerInputs` and pass it to `CLIP.encode_image`, `encode_text` or `encode_prompts`. Only the towers
read it. Prompts, inserted tokens and adapters are given for each layer. Layers are numbered from 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

#: The linear maps of an attention: queries, keys, values and the output projection.
Projection = Literal["q", "k", "v", "out"]
#: Rows that a tower can return in addition to its feature.
Rows = Literal["inserted", "patches"]


class TowerOutput(NamedTuple):
    """A tower's output: features (N, embed_dim), not normalised, and other rows (N, n, width) if the caller wants them.

    The tower has applied its final norm (`ln_post` or `ln_final`) to the rows, but not its projection. `rows` is None
    if the caller didn't ask for rows.
    """

    features: torch.Tensor
    rows: torch.Tensor | None = None


class BlockAdapter:
    """Base class for the adapter of one block. By default both methods return None; a subclass overrides one or both.

    An adapter must be row-wise: each row of the result may depend only on the same row of `h`. The towers rely on this,
    because they pack the rows of many sequences in one matrix. At the last layer, they compute only some of the rows.

    `h` has the shape (..., width) with any leading dimensions. The tower casts the result to the tower's dtype.
    An adapter with parameters also derives from nn.Module: `class Adapter(BlockAdapter, nn.Module)`.
    """

    def beside(self, h: torch.Tensor) -> torch.Tensor | None:
        """Return rows (..., width) to add to the block's output, or None. `h` is the output of the block's `ln_1`."""
        return None

    def delta(self, projection: Projection, h: torch.Tensor) -> torch.Tensor | None:
        """Return rows (..., width) to add to the output of a projection of the attention, or None.

        Args:
            projection: name of the projection.
            h: input of the projection. For "q", "k" and "v" this is the output of `ln_1`. For "out" it is the
                attention's output before `out_proj`.
        """
        return None


@dataclass(frozen=True)
class TowerInputs:
    """A method's inputs to one tower. By default they are empty, so that the tower computes CLIP's original features.

    Args:
        prompts: layer -> prompts, which become part of this layer's input. A layer without an entry keeps the output
            of the previous layer.
            Text tower: the shape is (n, width), or (G, n, width) with one entry per prefix, or (N, n, width) with one
            entry per sequence. The prompts replace positions 1 to n. At layer 0 they replace token embeddings, so
            positional embeddings are added to them.
            Image tower: the shape is (n, width). At layer 0 the prompts are appended after the patches, before `ln_pre`
            and without positional embeddings. At a later layer they replace the prompts of an earlier layer. If no
            earlier layer has prompts, they are appended.
        inserted: layer -> tokens (n, width) (MMRL, arXiv 2503.08497). At the lowest layer of the mapping, the tokens
            are inserted after CLS or SOS, without positional embeddings. At the other layers, the tokens
            replace these n rows.
        blend: weight of the new tokens where `inserted` replaces rows: blend * new + (1 - blend) * old (MMRL++).
        adapters: layer -> adapter of this layer's block.
    """

    prompts: Mapping[int, torch.Tensor] = field(default_factory=dict)
    inserted: Mapping[int, torch.Tensor] = field(default_factory=dict)
    blend: float = 1.0
    adapters: Mapping[int, BlockAdapter] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there are no inputs, so that the tower computes CLIP's original features."""
        return not (self.prompts or self.inserted or self.adapters)

    @property
    def n_inserted(self) -> int:
        """Number of rows that `inserted` adds to each sequence."""
        return next((len(tokens) for tokens in self.inserted.values()), 0)

    def n_inserted_before(self, layer: int) -> int:
        """Return how many rows earlier layers have inserted into the input of `layer`."""
        return self.n_inserted if self.inserted and min(self.inserted) < layer else 0

    def n_prompts_before(self, layer: int) -> int:
        """Return how many prompts of earlier layers are in the input of `layer`. Used only for the image tower."""
        earlier = [number for number in self.prompts if number < layer]
        return self.prompts[max(earlier)].shape[-2] if earlier else 0

    def check(self, layers: int, tower: str) -> None:
        """Check that these inputs fit a tower.

        Args:
            layers: number of the tower's blocks.
            tower: the tower's name in error messages.

        Raises:
            ValueError: a layer doesn't exist in the tower, or two layers have different numbers of inserted tokens.
        """
        for name, by_layer in (
            ("prompts", self.prompts),
            ("inserted tokens", self.inserted),
            ("adapters", self.adapters),
        ):
            for layer in by_layer:
                if not 0 <= layer < layers:
                    raise ValueError(
                        f"there are {tower} {name} at layer {layer}, but the tower has layers 0 to {layers - 1}"
                    )
        if len({len(tokens) for tokens in self.inserted.values()}) > 1:
            raise ValueError(f"{tower} tower: all layers must insert the same number of tokens")


NO_INPUTS = TowerInputs()


def insert_tokens(x: torch.Tensor, inputs: TowerInputs, layer: int) -> torch.Tensor:
    """Insert the tokens of `layer` after the first row of each sequence.

    If an earlier layer has already inserted tokens there, the tokens of `layer` replace them.

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
