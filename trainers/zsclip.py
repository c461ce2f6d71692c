"""Zero-shot CLIP: class names in templates, nothing learned (Radford et al., 2021, section 3.1)."""

from collections.abc import Sequence
from typing import Any

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, PromptTrainer, normalized
from trainers.common.prompts import tokenize_classes

#: Seven of CLIP's 80 templates for ImageNet, which do nearly as well as all of them together.
SELECTED_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


class TemplateCLIP(Method):
    """CLIP with one prompt a class, or the mean of several templates' normalised features."""

    learns_text = False

    def __init__(self, model: CLIP, templates: Sequence[str], classnames: Sequence[str]):
        super().__init__(model)
        device = model.logit_scale.device
        #: token ids, (classes, context length) for each template
        self.ids = [tokenize_classes(model, template, classnames).to(device) for template in templates]

    def encode_text(self) -> torch.Tensor:
        return torch.stack([normalized(self.clip.encode_text(ids)) for ids in self.ids]).mean(0)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """One template: DATASET.TEMPLATE, or the data set's own. Config node TRAINER.ZEROSHOTCLIP."""

    default_config = "vit_b16"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> TemplateCLIP:
        return TemplateCLIP(model, [cfg.DATASET.TEMPLATE or dataset.template], dataset.classnames)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(PromptTrainer):
    """Seven selected templates and, but for ImageNet, the data set's own. Config node TRAINER.ZEROSHOTCLIP2."""

    default_config = "vit_b16"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> TemplateCLIP:
        own = [] if cfg.DATASET.NAME == "ImageNet" else [cfg.DATASET.TEMPLATE or dataset.template]
        return TemplateCLIP(model, [*SELECTED_TEMPLATES, *own], dataset.classnames)
