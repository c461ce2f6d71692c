"""FeatureCache, a toy method without epochs.

It compares the image feature with the features of the training images. The weight of this comparison in the logits is
chosen on the validation images.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    LabelledFeatures,
    Method,
    Options,
    Output,
    PromptTrainer,
    TrainingFeatures,
    normalized,
    tokenize_classes,
)

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 5.0)


class FeatureCacheCLIP(Method):
    """Zero-shot logits plus `alpha` times the similarity to each class's training images."""

    image_tower_is_frozen = True
    text_is_learned = False
    has_loop = False
    sized_by_data = ("keys", "values")

    def __init__(self, options: Options, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.ids = tokenize_classes(clip, template, classnames).to(clip.logit_scale.device)
        embed_dim = clip.sizes.embed_dim
        self.register_buffer("keys", torch.zeros(1, embed_dim))  # (n_images, embed_dim); `fit` sets n_images
        self.register_buffer("values", torch.zeros(1, len(classnames)))  # (n_images, n_classes), one-hot
        self.register_buffer("alpha", torch.zeros(()))

    def encode_text(self) -> torch.Tensor:
        return self.clip.encode_text(self.ids)

    def classify(self, image_features: torch.Tensor) -> Output:
        output = super().classify(image_features)
        keys, values, alpha = (self.get_buffer(name) for name in ("keys", "values", "alpha"))
        near = torch.exp(5 * (output.image_features @ keys.t() - 1))  # (batch, n_images)
        return Output(output.logits + alpha * near @ values, output.image_features, output.text_features)

    def fit(self, data: TrainingFeatures) -> None:
        train = data.train(passes=2)
        device = self.get_buffer("alpha").device
        self.keys = normalized(train.features).to(device)
        self.values = F.one_hot(train.labels, len(self.classnames)).float().to(device)

    def search(self, data: TrainingFeatures) -> None:
        images = data.val()
        if images is not None:
            self.get_buffer("alpha").fill_(max(WEIGHTS, key=lambda weight: self._score(weight, images)))

    @torch.no_grad()
    def _score(self, weight: float, images: LabelledFeatures) -> float:
        self.get_buffer("alpha").fill_(weight)
        features, labels = (part.to(self.get_buffer("alpha").device) for part in images)
        return (self.classify(features).logits.argmax(1) == labels).float().mean().item()


@TRAINER_REGISTRY.register()
class FeatureCache(PromptTrainer):
    """Trains FeatureCache. It calls `fit` and `search`, and there are no epochs."""

    method = FeatureCacheCLIP
    checkpoints = {"cache": ""}
    default_config = "CoOp/vit_b16_ep50"
