"""CoOp: Learning to Prompt for Vision-Language Models (Zhou et al., IJCV 2022, arXiv 2109.01134).

The words around the class name are replaced by learned vectors, the context (equation 2). All classes share one
context, or each class has a separate context. CLIP's weights are frozen.

Files that were written for CoOp import some names from this module. `trainers/common/coop_names.py` defines them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    ClassPrompts,
    ContextTokens,
    Method,
    Options,
    Position,
    PromptTrainer,
    described,
    start_coop_context,
)
from trainers.base import PromptLearner as LearnedContext
from trainers.common.coop_names import CustomCLIP, PromptLearner, TextEncoder, load_clip_to_cpu

__all__ = ["CoOp", "CoOpCLIP", "CoOpOptions", "CustomCLIP", "PromptLearner", "TextEncoder", "load_clip_to_cpu"]


@dataclass(frozen=True)
class CoOpOptions(Options):
    """The options of CoOp, in the config node TRAINER.COOP."""

    N_CTX: ContextTokens = described(16, "number of context tokens")
    CSC: bool = described(False, "True: learn one context for each class; ignored if CTX_INIT is given")
    CTX_INIT: str = described(
        "", 'initial words of the context; the number of words overrides N_CTX. "": random values'
    )
    CLASS_TOKEN_POSITION: Position = described("end", "position of the class name in the prompt")


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
        self.prompt_learner = LearnedContext(context)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx)


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Trains CoOp. The default config is for the baseline in CoCoOp's paper, with 4 context tokens and 50 epochs."""

    method = CoOpCLIP
    options = CoOpOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep50_ctxv1"
