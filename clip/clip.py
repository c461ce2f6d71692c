"""OpenAI's surface: models by name, downloads, preprocessing, tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision import transforms as T

from clip.loading import MODELS as _MODELS
from clip.loading import download as _download
from clip.loading import load_clip
from clip.model import CLIP, build_model, convert_weights
from clip.sizes import OPENAI_MEAN, OPENAI_STD

__all__ = ["available_models", "load", "tokenize"]
_exported = (_MODELS, _download, build_model)  # trainers take these from here


def available_models() -> list[str]:
    """Names of OpenAI's models. `clip.loading.load_clip` knows OpenCLIP's and Hugging Face's too."""
    return list(_MODELS)


def _to_rgb(image):
    return image.convert("RGB")


def _transform(n_px: int, mean: Sequence[float] = OPENAI_MEAN, std: Sequence[float] = OPENAI_STD) -> T.Compose:
    """CLIP's preprocessing of a PIL image for an input of `n_px` pixels."""
    resize = T.Resize(n_px, interpolation=T.InterpolationMode.BICUBIC)
    return T.Compose([resize, T.CenterCrop(n_px), _to_rgb, T.ToTensor(), T.Normalize(mean, std)])


def load(
    name: str, device: str | torch.device | None = None, jit: bool = False, download_root: str | None = None
) -> tuple[CLIP, T.Compose]:
    """A CLIP by name or path, and the preprocessing of its images.

    Half precision on a GPU (the default device where there is one), float32 on the CPU.

    Raises:
        RuntimeError: no model of that name and no such file, or `jit` (TorchScript has no prompts).
    """
    if jit:
        raise RuntimeError("jit=True is not offered: load the model as a module")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if name not in _MODELS and not Path(name).exists():
        raise RuntimeError(f"Model {name} not found; available models = {available_models()}")
    model = load_clip(name if name in _MODELS else "", "" if name in _MODELS else name, download_root)
    if device.type != "cpu":
        convert_weights(model)
    sizes = model.sizes
    return model.requires_grad_(True).to(device), _transform(sizes.image_resolution, sizes.mean, sizes.std)


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> torch.Tensor:
    """Token ids (number of texts, context_length): start, text, end, zeros.

    Raises:
        RuntimeError: a text is too long and `truncate` is not set; names the text.
    """
    from clip.simple_tokenizer import END, START, tokenizer  # slow to import: only where text is

    bpe = tokenizer()
    texts = [texts] if isinstance(texts, str) else texts
    result = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(result, texts, strict=True):
        ids = [bpe.encoder[START], *bpe.encode(text), bpe.encoder[END]]
        if len(ids) > context_length:
            if not truncate:
                raise RuntimeError(
                    f"{text!r} has {len(ids)} tokens with start and end; the context takes {context_length}"
                )
            ids = [*ids[: context_length - 1], bpe.encoder[END]]
        row[: len(ids)] = torch.tensor(ids)
    return result
