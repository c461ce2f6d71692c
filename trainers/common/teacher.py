"""Features of the frozen CLIP. A method's loss can compare the learned features with the frozen features.

A `CLIP` gets learned prompts and adapters as arguments of its functions. Without these arguments, the same `CLIP`
computes the frozen features. So no second copy of the weights is needed.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from clip.model import CLIP
from trainers.common.method import normalized
from trainers.common.tokens import tokenize_classes


@torch.no_grad()
def frozen_text_features(
    clip: CLIP,
    templates: Sequence[str],
    classnames: Sequence[str],
    average: Literal["raw", "normalised"] = "normalised",
) -> torch.Tensor:
    """Return text features of the frozen CLIP (n_classes, embed_dim), float32, normalised.

    Call this function once, when the method is built or when the features are first needed.

    Args:
        templates: each template has one {} for the class name; the features of all templates are averaged.
        average: "normalised": normalise the features of each template before averaging; "raw": average
            the features without normalising them first (PromptSRC).
    """
    return normalized(mean_text_features(clip, templates, classnames, average))


@torch.no_grad()
def mean_text_features(
    clip: CLIP,
    templates: Sequence[str],
    classnames: Sequence[str],
    average: Literal["raw", "normalised"] = "normalised",
    keep_underscores: bool = False,
) -> torch.Tensor:
    """Return the average that `frozen_text_features` normalises, (n_classes, embed_dim), float32.

    Args:
        keep_underscores: False: underscores in class names become spaces.
    """
    device = clip.logit_scale.device
    mean = torch.zeros((), device=device)
    with torch.autocast(device.type, enabled=False):  # a method may call this function in a training step under amp
        for template in templates:
            ids = tokenize_classes(clip, template, classnames, keep_underscores).to(
                device
            )  # (n_classes, context length)
            features = clip.encode_text(ids).float()  # (n_classes, embed_dim)
            mean = mean + (normalized(features) if average == "normalised" else features)
    return mean / len(templates)


@torch.no_grad()
def frozen_image_features(clip: CLIP, images: torch.Tensor) -> torch.Tensor:
    """Return image features of the frozen CLIP (batch, embed_dim), float32, normalised."""
    return normalized(clip.encode_image(images))


def cosine_distance(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return 1 - the mean cosine similarity (0-dimensional) of corresponding rows of two normalised tensors (n, d)."""
    return 1 - (features * targets).sum(-1).mean()
