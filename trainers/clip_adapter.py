"""CLIP-Adapter: Better Vision-Language Models with Feature Adapters (Gao et al., IJCV 2024, arXiv 2110.04544).

A small network of two layers, the adapter, is applied to the image feature. Its output is mixed with the feature
(section 3.2). As in the official code, there is no adapter for text features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import (
    CachedOptions,
    CachedTrainer,
    FeatureAdapter,
    Method,
    Output,
    Positive,
    Precision,
    described,
    tokenize_classes,
)


@dataclass(frozen=True)
class CLIPAdapterOptions(CachedOptions):
    """The options of CLIP-Adapter, in the config node TRAINER.CLIP_ADAPTER."""

    PREC: Precision = "fp32"
    RATIO: float = described(0.2, "share of the adapter's output in the mixed feature")
    REDUCTION: Positive = described(4, "the hidden layer has embed_dim / REDUCTION units")


class AdaptedCLIP(Method):
    """CLIP with an adapter after the image tower."""

    text_is_learned = False
    image_tower_is_frozen = True

    def __init__(self, options: CLIPAdapterOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.ids = tokenize_classes(clip, template, classnames).to(clip.logit_scale.device)
        width = clip.sizes.embed_dim
        if not 1 <= options.REDUCTION <= width:
            raise InputError(f"TRAINER.CLIP_ADAPTER.REDUCTION is {options.REDUCTION}, but it must be from 1 to {width}")
        self.adapter = FeatureAdapter(width, options.RATIO, options.REDUCTION)

    def encode_text(self) -> torch.Tensor:
        return self.clip.encode_text(self.ids)

    def classify(self, image_features: torch.Tensor) -> Output:
        return super().classify(self.adapter(image_features))


@TRAINER_REGISTRY.register()
class CLIP_Adapter(CachedTrainer):
    """Trains CLIP-Adapter. With ViT-B/16, it learns 131,072 parameters."""

    method = AdaptedCLIP
    options = CLIPAdapterOptions
    checkpoints = {"clip_adapter": "adapter"}
    default_config = "vit_b16_ep100"
