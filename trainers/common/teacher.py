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

    Call this function once, when the method is built.

    Args:
        templates: each template has one {} for the class name; the features of all templates are averaged.
        average: "normalised": normalise the features of each template before averaging; "raw": average
            the features without normalising them first (PromptSRC).
    """
    mean = torch.zeros(())
    for template in templates:
        ids = tokenize_classes(clip, template, classnames).to(clip.logit_scale.device)  # (n_classes, context length)
        features = clip.encode_text(ids).float()  # (n_classes, embed_dim)
        mean = mean.to(features.device) + (normalized(features) if average == "normalised" else features)
    return normalized(mean / len(templates))


@torch.no_grad()
def frozen_image_features(clip: CLIP, images: torch.Tensor) -> torch.Tensor:
    """Return image features of the frozen CLIP (batch, embed_dim), float32, normalised."""
    return normalized(clip.encode_image(images))
