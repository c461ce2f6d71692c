"""ShortPrompt, the example in CONTRIBUTING.md. It learns two words of the text prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import ClassPrompts, Method, Options, PromptLearner, PromptTrainer, described, start_context


@dataclass(frozen=True)
class ShortPromptOptions(Options):
    """The options of ShortPrompt, in the config node TRAINER.SHORTPROMPT."""

    CTX_INIT: str = described("a photo", "initial words of the context")


class ShortPromptCLIP(Method):
    """CLIP with a learned context of two tokens."""

    image_tower_is_frozen = True  # evaluation may use cached image features

    def __init__(self, options: ShortPromptOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        context, prompt_template = start_context(clip, 2, options.CTX_INIT)
        self.prompts = ClassPrompts(clip, prompt_template, classnames, n_ctx=2)
        self.prompt_learner = PromptLearner(context)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx)


@TRAINER_REGISTRY.register()
class ShortPrompt(PromptTrainer):
    """Trains ShortPrompt."""

    method = ShortPromptCLIP
    options = ShortPromptOptions
    checkpoints = {"prompt_learner": "prompt_learner"}  # checkpoint folder -> part of the method
    default_config = "CoOp/vit_b16_ep50"  # config file for images and optimiser
