"""Deep language prompting, MaPLe's ablation (arXiv 2210.03117, table 1): deep prompts in the text tower alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.inputs import TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    ClassPrompts,
    Method,
    Options,
    PromptLearner,
    PromptTrainer,
    TowerPrompts,
    check_depth,
    start_context,
    words_unless_long,
)


@dataclass(frozen=True)
class LanguagePromptingOptions(Options):
    """Config node TRAINER.LANGUAGEPROMPTING."""

    N_CTX_TEXT: int = 4  # context tokens, and prompts in each layer
    CTX_INIT: str = "a photo of a"  # words that the context starts from; ignored if N_CTX_TEXT > 4
    PROMPT_DEPTH_TEXT: int = 12  # layers with prompts


class LanguagePromptedCLIP(Method):
    """CLIP with deep prompts in the text tower."""

    image_tower_is_frozen = True

    def __init__(self, options: LanguagePromptingOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        check_depth(clip, options.PROMPT_DEPTH_TEXT, "TRAINER.LANGUAGEPROMPTING.PROMPT_DEPTH_TEXT", ["text"])
        words = words_unless_long(options.CTX_INIT, options.N_CTX_TEXT)
        context, prompt_template = start_context(clip, options.N_CTX_TEXT, words)
        self.prompts = ClassPrompts(clip, prompt_template, classnames, options.N_CTX_TEXT)
        self.prompt_learner = PromptLearner(context)
        self.text_encoder = TowerPrompts(range(1, options.PROMPT_DEPTH_TEXT), *context.shape)

    def text_inputs(self) -> TowerInputs:
        return TowerInputs(self.text_encoder.prompts())

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx, self.text_inputs())


@TRAINER_REGISTRY.register()
class LanguagePrompting(PromptTrainer):
    """The folder of its checkpoints is IVLP's, as in the original code."""

    method = LanguagePromptedCLIP
    options = LanguagePromptingOptions
    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_4ctx"
