"""Defines what a method passes to a tower in addition to images or texts: prompts, inserted tokens and adapters.

Methods build a `TowerInputs` object and pass the object to `CLIP.encode_image`, `encode_text` or `encode_prompts`. Only
the towers read the object. Each layer can have separate prompts, inserted tokens and adapters. The first layer is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

#: Names of the attention's linear maps, which compute queries, keys, values and the output.
Projection = Literal["q", "k", "v", "out"]
#: Names of the rows that a tower can return in addition to features.
Rows = Literal["inserted", "patches"]


class TowerOutput(NamedTuple):
    """The output of a tower, which has features (N, embed_dim), not normalised, and rows (N, n, width).

    `rows` is None if the caller wants only features. Otherwise, `rows` are rows of the last layer's output. The tower
    has applied its final norm (`ln_post` or `ln_final`) to the rows, but not its projection.
    """

    features: torch.Tensor
    rows: torch.Tensor | None = None


class BlockAdapter:
    """Base class for the adapter of one block. By default both methods return None; a subclass overrides one or both.

    An adapter must be row-wise: each row of the result may depend only on the same row of `h`. The towers rely on this,
    because they pack the rows of many sequences in one matrix. At the last layer, the towers compute only some rows.

    `h` has the shape (..., width) with any leading dimensions. The tower casts the result to the tower's dtype.
    An adapter with parameters also derives from nn.Module: `class Adapter(BlockAdapter, nn.Module)`.
    """

    def beside(self, h: torch.Tensor) -> torch.Tensor | None:
        """Return rows (..., width) that the tower adds to the block's output, or None to add nothing.

        `h` is the output of the block's `ln_1`.
        """
        return None

    def delta(self, projection: Projection, h: torch.Tensor) -> torch.Tensor | None:
        """Return rows (..., width) that the tower adds to the output of `projection`, or None to add nothing.

        Args:
            projection: name of one of the attention's linear maps.
            h: input of this linear map. For "q", "k" and "v" this is the output of `ln_1`. For "out" it is the
                attention's output before `out_proj`.
        """
        return None


@dataclass(frozen=True)
class TowerInputs:
    """A method's inputs to one tower. By default they are empty, so that the tower computes CLIP's original features.

    Args:
        prompts: {layer: prompts}. The prompts become part of the layer's input. A layer without prompts gets the
            unchanged output of the previous layer.
            In the text tower, the shape is (n, width) if all sequences have the same prompts. It is (G, n, width) if
            each of G prefixes has n prompts, and (N, n, width) if each of N sequences has n prompts. The prompts
            replace positions 1 to n. At layer 0 they replace token embeddings, before positional embeddings are added.
            In the image tower, the shape is (n, width). At layer 0 the prompts are appended after the patches, before
            `ln_pre` and without positional embeddings. At a later layer, the prompts replace the prompts of an earlier
            layer. If no earlier layer has prompts, the prompts are appended.
        inserted: {layer: tokens}, with tokens (n, width) (MMRL, arXiv 2503.08497). At the lowest layer in the dict, the
            tokens are inserted after CLS or SOS, without positional embeddings. At each later layer in the dict, the
            tokens replace the n inserted rows.
        blend: weight of the new tokens where they replace the n inserted rows. The new rows are
            blend * new + (1 - blend) * old (MMRL++).
        adapters: {layer: adapter of the layer's block}.
    """

    prompts: Mapping[int, torch.Tensor] = field(default_factory=dict)
    inserted: Mapping[int, torch.Tensor] = field(default_factory=dict)
    blend: float = 1.0
    adapters: Mapping[int, BlockAdapter] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True if there are no inputs. The tower then computes CLIP's original features."""
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
        inputs: their inserted tokens have the dtype of x.
    """
    if layer not in inputs.inserted:
        return x
    new = inputs.inserted[layer][None].expand(x.shape[0], -1, -1)  # (sequences, n, width)
    n_old = inputs.n_inserted_before(layer)
    first, old, rest = x.split([1, n_old, x.shape[1] - 1 - n_old], dim=1)
    if n_old and inputs.blend != 1:
        new = inputs.blend * new + (1 - inputs.blend) * old
    return torch.cat([first, new, rest], dim=1)


def cast_together(tensors: Mapping[int, torch.Tensor], dtype: torch.dtype) -> Mapping[int, torch.Tensor]:
    """Cast the tensors of all layers to `dtype` in one call, which saves a kernel launch for each layer on a GPU."""
    if all(tensor.dtype == dtype for tensor in tensors.values()):
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()]).to(dtype)
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {layer: part.view(tensors[layer].shape) for layer, part in zip(tensors, parts, strict=True)}
