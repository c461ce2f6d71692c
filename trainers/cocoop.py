"""CoCoOp: Conditional Prompt Learning for Vision-Language Models (Zhou et al., CVPR 2022, arXiv 2203.05557).

A small network shifts CoOp's context by each image's feature (section 3.2), so every image has its own text features.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from clip.model import CLIP
from clip.text import Layout
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, PromptTrainer, normalized
from trainers.common.prompts import ClassPrompts, coop_context

#: Prompts (images times classes) encoded at once in evaluation, which bounds its memory.
_PROMPTS_AT_ONCE = 2000


class ConditionalPromptLearner(nn.Module):
    """The context v (n, width) and the meta net h: image feature x -> shift of every context vector."""

    def __init__(self, context: torch.Tensor, embed_dim: int):
        super().__init__()
        width = context.shape[-1]
        self.ctx = nn.Parameter(context)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(embed_dim, embed_dim // 16),
                relu=nn.ReLU(inplace=True),
                linear2=nn.Linear(embed_dim // 16, width),
            )
        )

    def forward(self, image_features: torch.Tensor) -> torch.Tensor:
        """Normalised features (batch, embed_dim) -> contexts v_m + h(x) (batch, n, width)."""
        return self.ctx + self.meta_net(image_features.float())[:, None]


class CoCoOpCLIP(Method):
    """CLIP whose context depends on the image: as many prefixes as images, each with every class behind it."""

    def __init__(self, model: CLIP, classes: ClassPrompts, prompt_learner: ConditionalPromptLearner):
        super().__init__(model)
        self.classes = classes
        self.prompt_learner = prompt_learner
        self._layouts: dict[int, Layout] = {}

    def logits(self, image_features: torch.Tensor) -> torch.Tensor:
        image_features = normalized(image_features)
        if torch.is_grad_enabled():
            return self._logits(image_features)
        at_once = max(1, _PROMPTS_AT_ONCE // self.classes.layout.count)
        return torch.cat([self._logits(part) for part in image_features.split(at_once)])

    def _logits(self, image_features: torch.Tensor) -> torch.Tensor:
        """Of normalised features."""
        batch, names = len(image_features), self.classes.layout.count
        prefix = self.classes.with_context(self.prompt_learner(image_features))  # (batch, P, width)
        own = self.classes.class_tokens.repeat(batch, 1)
        text = self.clip.encode_prompts(prefix, own, self._layout(batch)).unflatten(0, (batch, names))
        return self.similarity(image_features, normalized(text))

    def _layout(self, batch: int) -> Layout:
        """All classes behind the first image's prefix, then behind the second's ..."""
        if batch not in self._layouts:
            lengths = self.classes.layout.lengths
            images = torch.arange(batch, device=lengths.device)
            self._layouts[batch] = Layout(lengths.repeat(batch), images.repeat_interleave(len(lengths)))
        return self._layouts[batch]


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Config node TRAINER.COCOOP. Any batch size."""

    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_c4_ep10_batch1_ctxv1"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> CoCoOpCLIP:
        opts = cls.options(cfg)
        context, template = coop_context(model, opts.N_CTX, opts.CTX_INIT)
        classes = ClassPrompts.of(model, template, dataset.classnames)
        return CoCoOpCLIP(model, classes, ConditionalPromptLearner(context, model.text_projection.shape[1]))
