"""Reads and writes the weights of ViT-Mini/8, the small CLIP that comes with the project.

`clip.loading` calls `load`, and `tools/pretrain` calls `save`. To keep the file small, `save` stores the embeddings
only of tokens that occurred in pretraining. The model card is assets/vit-mini/README.md.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from clip.sizes import VOCABULARY

NAME = "ViT-Mini/8"
FILE = Path(__file__).resolve().parents[1] / "assets" / "vit-mini" / "weights.safetensors"
_EMBEDDING, _ROWS = "token_embedding.weight", "token_rows"


def save(state: Mapping[str, torch.Tensor], rows: torch.Tensor, path: Path = FILE) -> None:
    """Write weights to `path` in half precision.

    Args:
        state: weights with OpenAI's parameter names. The token embedding has one row for each id in `rows`.
        rows: ids of the tokens that occurred in pretraining, (n_rows,), ascending.
    """
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {_ROWS: rows.int()}, path)


def load(vocabulary: int = VOCABULARY, path: Path = FILE) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Read weights from `path`. Returns the results of `unpacked`."""
    state, known = unpacked(load_file(path), vocabulary)
    if known is None:
        raise ValueError(f"{path} has no {_ROWS}")
    return dict(state), known


def unpacked(
    state: Mapping[str, torch.Tensor], vocabulary: int = VOCABULARY
) -> tuple[Mapping[str, torch.Tensor], torch.Tensor | None]:
    """Complete the token embedding of weights that `save` wrote. Other weights are returned unchanged.

    Tokens that didn't occur in pretraining get the mean of the trained embeddings.

    Args:
        state: weights as they are in the file.
        vocabulary: number of tokens in the returned token embedding.

    Returns:
        The weights with OpenAI's parameter names, and a bool mask (vocabulary,), which is True for tokens that have a
        trained embedding. The mask is None if `save` didn't write the weights.

    Raises:
        ValueError: the list of trained tokens doesn't fit the embedding.
    """
    if _ROWS not in state:
        return state, None
    rows, trained = state[_ROWS], state.get(_EMBEDDING, torch.empty(0))  # (n_rows,), (n_rows, width)
    fits = rows.ndim == 1 and not rows.is_floating_point() and trained.ndim == 2 and len(rows) == len(trained) > 0
    if not fits or not 0 <= int(rows.min()) <= int(rows.max()) < vocabulary:
        raise ValueError(f"{_ROWS} doesn't fit {_EMBEDDING}")
    full = trained.float().mean(0).repeat(vocabulary, 1)  # (vocabulary, width)
    full[rows.long()] = trained.float()
    known = torch.zeros(vocabulary, dtype=torch.bool)
    known[rows.long()] = True
    return {name: tensor for name, tensor in state.items() if name != _ROWS} | {_EMBEDDING: full}, known
