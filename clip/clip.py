"""The public functions of OpenAI's package. They load a model by name, preprocess images and tokenize texts.

Third-party trainers import these functions from this module, under OpenAI's names. Our own trainers use `clip.loading`
and `tokenize`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms as T

from clip.loading import MODELS as _MODELS
from clip.loading import load_clip
from clip.loading import local_file as _download
from clip.model import CLIP, build_model, convert_weights
from clip.sizes import OPENAI_MEAN, OPENAI_STD

__all__ = ["available_models", "load", "tokenize"]
_exported = (_MODELS, _download, build_model)  # third-party trainers import these names from this module


def available_models() -> list[str]:
    """Return the names of OpenAI's models and of this project's small model.

    `clip.loading.load_clip` also loads OpenCLIP and Hugging Face models.
    """
    return list(_MODELS)


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _transform(n_px: int, mean: Sequence[float] = OPENAI_MEAN, std: Sequence[float] = OPENAI_STD) -> T.Compose:
    """Return CLIP's preprocessing, which turns a PIL image into a normalised tensor (3, n_px, n_px)."""
    resize = T.Resize(n_px, interpolation=T.InterpolationMode.BICUBIC)
    return T.Compose([resize, T.CenterCrop(n_px), _to_rgb, T.ToTensor(), T.Normalize(mean, std)])


def load(
    name: str, device: str | torch.device | None = None, jit: bool = False, download_root: str | None = None
) -> tuple[CLIP, T.Compose]:
    """Load a CLIP by name or path. Returns the model and the transform that preprocesses its images.

    Args:
        name: one of `available_models()`, or the path of a file or folder with weights.
        device: device of the model; None: a GPU if one is available, otherwise the CPU. The weights are float32 on a
            CPU and in half precision on a GPU.
        jit: must be False. The argument exists only because OpenAI's function has it.
        download_root: folder for downloaded weights; None: ~/.cache/clip.

    Raises:
        RuntimeError: no model, file or folder has this name; or `jit` is True.
    """
    if jit:
        raise RuntimeError("jit=True is not supported, because TorchScript models take no prompts. Leave jit out")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if name not in _MODELS and not Path(name).exists():
        raise RuntimeError(f"Model {name} not found; available models = {available_models()}")
    model = load_clip(name if name in _MODELS else "", "" if name in _MODELS else name, download_root)
    if device.type != "cpu":
        convert_weights(model)
    sizes = model.sizes
    return model.requires_grad_(True).to(device), _transform(sizes.image_resolution, sizes.mean, sizes.std)


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> torch.Tensor:
    """Return token ids (n_texts, context_length), int64.

    A row has the start token, the tokens of the text, the end token, and then zeros.

    Args:
        truncate: whether to shorten a text that is too long. A shortened text still ends with the end token.

    Raises:
        RuntimeError: a text is too long and `truncate` is False. The message contains the text.
    """
    from clip.simple_tokenizer import END, START, tokenizer  # imported here, because the import is slow

    bpe = tokenizer()
    texts = [texts] if isinstance(texts, str) else texts
    result = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(result, texts, strict=True):
        ids = [bpe.encoder[START], *bpe.encode(text), bpe.encoder[END]]
        if len(ids) > context_length:
            if not truncate:
                raise RuntimeError(
                    f"{text!r} has {len(ids)} tokens, including start and end; the limit is {context_length}"
                )
            ids = [*ids[: context_length - 1], bpe.encoder[END]]
        row[: len(ids)] = torch.tensor(ids)
    return result
