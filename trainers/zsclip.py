"""Zero-shot CLIP (Radford et al., 2021, section 3.1): class names are put into templates, and nothing is learned."""

from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from clip.model import CLIP
from dassl.data.datasets import DatasetBase
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, Options, PromptTrainer, normalized, tokenize_classes
from trainers.imagenet_templates import IMAGENET_TEMPLATES_SELECT


class ZeroshotMethod(Method):
    """Zero-shot CLIP with one template, which is the data set's template."""

    text_is_learned = False
    image_tower_is_frozen = True

    def __init__(self, options: Options, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        device = clip.logit_scale.device
        #: Token ids, with one tensor (n_classes, context length) for each template.
        self.ids = [tokenize_classes(clip, text, classnames).to(device) for text in self.templates()]

    def templates(self) -> list[str]:
        """Return the templates. The normalised features of all templates are averaged."""
        return [self.template]

    def encode_text(self) -> torch.Tensor:
        return torch.stack([normalized(self.clip.encode_text(ids)) for ids in self.ids]).mean(0)


class ZeroshotEnsemble(ZeroshotMethod):
    """Zero-shot CLIP with an ensemble of templates.

    The ensemble consists of the seven selected templates, and of the data set's template unless this template is "".
    """

    def templates(self) -> list[str]:
        return [*IMAGENET_TEMPLATES_SELECT, *([self.template] if self.template else [])]


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Tests zero-shot CLIP with one template.

    The template is the option DATASET.TEMPLATE, or the data set's default template if the option is "".
    """

    method = ZeroshotMethod
    default_config = "vit_b16"


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(PromptTrainer):
    """Tests zero-shot CLIP with an ensemble of templates. For ImageNet, only the seven selected templates are used."""

    method = ZeroshotEnsemble
    default_config = "vit_b16"

    @classmethod
    def template(cls, cfg: CfgNode, dataset: DatasetBase) -> str:
        return "" if cfg.DATASET.NAME == "ImageNet" else super().template(cfg, dataset)
