"""CoOp: Learning to Prompt for Vision-Language Models (Zhou et al., IJCV 2022, arXiv 2109.01134).

The words before the class name are learned vectors, for all classes or for each (equation 2); CLIP stays as it is.
"""

from typing import Any

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, PromptTrainer
from trainers.common.prompts import ClassPrompts, PlacedContext, PromptLearner, coop_context


class CoOpCLIP(Method):
    """CLIP with a learned context in the text prompts."""

    def __init__(self, model: CLIP, prompt_learner: PromptLearner, prompts: ClassPrompts | PlacedContext):
        super().__init__(model)
        self.prompt_learner = prompt_learner
        self.prompts = prompts

    def encode_text(self) -> torch.Tensor:
        context = self.prompt_learner.ctx
        if isinstance(self.prompts, ClassPrompts):
            return self.clip.encode_prompts(
                self.prompts.with_context(context), self.prompts.class_tokens, self.prompts.layout
            )
        return self.clip.encode_prompts(self.prompts.prefix, self.prompts.class_tokens(context), self.prompts.layout)


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Config node TRAINER.COOP."""

    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep50_ctxv1"  # what CoCoOp's paper compares with: 4 words, 50 epochs

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> CoOpCLIP:
        opts, names = cls.options(cfg), dataset.classnames
        context, template = coop_context(model, opts.N_CTX, opts.CTX_INIT, len(names) if opts.CSC else 0)
        prompts: ClassPrompts | PlacedContext
        if context.ndim == 2 and opts.CLASS_TOKEN_POSITION == "end":
            prompts = ClassPrompts.of(model, template, names)
        else:
            n, position, per_class = context.shape[-2], opts.CLASS_TOKEN_POSITION, context.ndim == 3
            prompts = PlacedContext(model, template, names, n, position, per_class)
        return CoOpCLIP(model, PromptLearner(context), prompts)
