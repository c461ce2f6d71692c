"""ZeroshotCLIP: the class names in the data set's template, nothing learned (Radford et al., 2021)."""

from typing import Any

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptedCLIP, PromptTrainer, tokenize_classes


class TemplateCLIP(PromptedCLIP):
    """CLIP with one prompt a class."""

    learns_text = False

    def __init__(self, model: CLIP, ids: torch.Tensor):
        super().__init__(model)
        self.ids = ids.to(model.logit_scale.device)  # (classes, context length)

    def encode_text(self) -> torch.Tensor:
        return self.clip.encode_text(self.ids)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Config node TRAINER.ZEROSHOTCLIP. DATASET.TEMPLATE goes before the data set's own template."""

    default_config = "vit_b16"

    @staticmethod
    def make_model(cfg: Any, model: CLIP, dataset: Any) -> TemplateCLIP:
        template = cfg.DATASET.TEMPLATE or dataset.template
        return TemplateCLIP(model, tokenize_classes(template, dataset.classnames, model.context_length))
