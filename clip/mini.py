"""ViT-Mini/8, the small CLIP that comes with the project (model card: assets/vit-mini/README.md)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

NAME = "ViT-Mini/8"
FILE = Path(__file__).resolve().parents[1] / "assets" / "vit-mini" / "weights.safetensors"
_EMBEDDING, _ROWS = "token_embedding.weight", "token_rows"


def save(state: Mapping[str, torch.Tensor], rows: torch.Tensor, path: Path = FILE) -> None:
    """Write weights in half precision.

    Args:
        state: OpenAI's layout; its token embedding has the rows of `rows` only.
        rows: the token ids that pretraining used, (R,), ascending.
    """
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {_ROWS: rows.int()}, path)


def load(vocabulary: int = 49408, path: Path = FILE) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The weights in OpenAI's layout, and which token ids have trained embeddings: (vocabulary,), bool.

    The other ids get the mean of the trained embeddings.
    """
    state = load_file(path)
    rows = state.pop(_ROWS).long()
    trained = state[_EMBEDDING].float()
    full = trained.mean(0).repeat(vocabulary, 1)  # (vocabulary, width)
    full[rows] = trained
    state[_EMBEDDING] = full
    known = torch.zeros(vocabulary, dtype=torch.bool)
    known[rows] = True
    return state, known
