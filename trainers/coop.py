"""CoOp: Learning to Prompt for Vision-Language Models (Zhou et al., IJCV 2022, arXiv 2109.01134).

The words before the class name are learned vectors, for all classes or for each class (equation 2). CLIP is unchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import ClassPrompts, Method, Options, PromptLearner, PromptTrainer, start_coop_context


@dataclass(frozen=True)
class CoOpOptions(Options):
    """Config node TRAINER.COOP."""

    N_CTX: int = 16  # number of context tokens
    CSC: bool = False  # one context for each class; ignored if CTX_INIT is given
    CTX_INIT: str = ""  # words that the context starts from; their number overrides N_CTX
    CLASS_TOKEN_POSITION: str = "end"  # the class name stands at the end, in the middle or in front


class CoOpCLIP(Method):
    """CLIP with a learned context in the text prompts."""

    image_tower_is_frozen = True

    def __init__(self, options: CoOpOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        copies = len(classnames) if options.CSC else 0
        context, prompt_template = start_coop_context(clip, options.N_CTX, options.CTX_INIT, copies)
        group = torch.arange(len(classnames)) if context.ndim == 3 else None
        position = options.CLASS_TOKEN_POSITION
        self.prompts = ClassPrompts(clip, prompt_template, classnames, context.shape[-2], position, group)
        self.prompt_learner = PromptLearner(context)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx)


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Default config: the one that CoCoOp's paper compares with, 4 words and 50 epochs."""

    method = CoOpCLIP
    options = CoOpOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep50_ctxv1"
