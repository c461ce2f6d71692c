"""ViT-Mini/8, the small CLIP that comes with the project: reads and writes its weights.

`clip.loading` loads it by name; `tools/pretrain` writes it. To keep the file small, it has the embeddings of the tokens
that pretraining used, and no others. The model card is assets/vit-mini/README.md.
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
        state: weights under OpenAI's names. The token embedding has one row for each id of `rows`.
        rows: the token ids that pretraining used, (n_rows,), ascending.
    """
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {_ROWS: rows.int()}, path)


def load(vocabulary: int = 49408, path: Path = FILE) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Read weights from `path`. Tokens that pretraining didn't use get the mean of the trained embeddings.

    Returns:
        The weights under OpenAI's names, and a mask of the tokens with trained embeddings, (vocabulary,), bool.
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
