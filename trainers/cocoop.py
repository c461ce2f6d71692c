"""CoCoOp: Conditional Prompt Learning for Vision-Language Models (Zhou et al., CVPR 2022, arXiv 2203.05557).

A small network maps the image feature to a vector, which is added to every token of CoOp's context (section 3.2). So
the text features differ from image to image.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    ClassPrompts,
    ContextTokens,
    Method,
    Options,
    Output,
    PromptTrainer,
    described,
    normalized,
    start_coop_context,
)


@dataclass(frozen=True)
class CoCoOpOptions(Options):
    """The options of CoCoOp, in the config node TRAINER.COCOOP."""

    N_CTX: ContextTokens = described(16, "number of context tokens")
    CTX_INIT: str = described(
        "", 'initial words of the context; the number of words overrides N_CTX. "": random values'
    )


class ConditionalPromptLearner(nn.Module):
    """Holds the learned context v (n_ctx, width) and the network h, which is called `meta_net`.

    The network maps an image feature x (embed_dim,) to a vector (width,), which is added to every context token.
    """

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
        """Return the contexts v + h(x) (batch, n_ctx, width), with one context for each image.

        Args:
            image_features: x, normalised, (batch, embed_dim).
        """
        return self.ctx + self.meta_net(image_features.float())[:, None]


class CoCoOpCLIP(Method):
    """CLIP with a context that depends on the image.

    Each image has a separate context. For one image, all class names follow the same prefix with the image's context.
    """

    image_tower_is_frozen = True
    text_depends_on_image = True

    def __init__(self, options: CoCoOpOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        context, prompt_template = start_coop_context(clip, options.N_CTX, options.CTX_INIT)
        self.prompts = ClassPrompts(clip, prompt_template, classnames, len(context))
        self.prompt_learner = ConditionalPromptLearner(context, clip.sizes.embed_dim)
        self._prompts_by_batch: dict[int, ClassPrompts] = {}

    def classify(self, image_features: torch.Tensor) -> Output:
        images = normalized(image_features)
        if torch.is_grad_enabled():
            text = self._text_features(images)
            return Output(self.similarity(images, text), images, text)
        at_once = max(1, self.prompts_at_once // len(self.classnames))
        parts = images.split(at_once)
        return Output(torch.cat([self.similarity(part, self._text_features(part)) for part in parts]), images)

    def _text_features(self, image_features: torch.Tensor) -> torch.Tensor:
        """Return normalised text features (batch, n_classes, embed_dim) for normalised image features."""
        batch = len(image_features)
        if batch not in self._prompts_by_batch:
            self._prompts_by_batch[batch] = self.prompts.for_each_context(batch)
        text = self._prompts_by_batch[batch].encode(self.prompt_learner(image_features))
        return normalized(text.unflatten(0, (batch, -1)))  # from (batch * n_classes, embed_dim)


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Trains CoCoOp. Any batch size works; the published configs use 1."""

    method = CoCoOpCLIP
    options = CoCoOpOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_c4_ep10_batch1_ctxv1"
