"""Features of the frozen CLIP, which a method's losses compare its own features with.

The CLIP takes prompts and adapters as arguments. Without arguments it is the untouched teacher, so no second copy of
the weights is needed.
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
    """Text features of the frozen CLIP (n_classes, embed_dim), float32, normalised. Compute them once, at building.

    Args:
        templates: each has one {} for the class name; their features are averaged.
        average: the mean is over features as they are ("raw", PromptSRC) or over normalised features.
    """
    mean = torch.zeros(())
    for template in templates:
        ids = tokenize_classes(clip, template, classnames).to(clip.logit_scale.device)  # (n_classes, context length)
        features = clip.encode_text(ids).float()  # (n_classes, embed_dim)
        mean = mean.to(features.device) + (normalized(features) if average == "normalised" else features)
    return normalized(mean / len(templates))


@torch.no_grad()
def frozen_image_features(clip: CLIP, images: torch.Tensor) -> torch.Tensor:
    """Image features of the frozen CLIP (batch, embed_dim), float32, normalised."""
    return normalized(clip.encode_image(images))
