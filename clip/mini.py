"""Reads and writes the weights of ViT-Mini/8, the small CLIP that comes with the project.

`clip.loading` calls `load`, and `tools/pretrain` calls `save`. To keep the file small, `save` stores the embeddings
only of tokens that occurred in pretraining. The model card is assets/vit-mini/README.md.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

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


def load(vocabulary: int = 49408, path: Path = FILE) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Read weights from `path`. Tokens that didn't occur in pretraining get the mean of the trained embeddings.

    Args:
        vocabulary: number of tokens in the returned token embedding.

    Returns:
        The weights with OpenAI's parameter names, and a bool mask (vocabulary,). The mask is True for tokens that have
        a trained embedding.
    """
    state = load_file(path)
    rows = state.pop(_ROWS).long()
    trained = state[_EMBEDDING].float()  # (n_rows, width)
    full = trained.mean(0).repeat(vocabulary, 1)  # (vocabulary, width)
    full[rows] = trained
    state[_EMBEDDING] = full
    known = torch.zeros(vocabulary, dtype=torch.bool)
    known[rows] = True
    return state, known
