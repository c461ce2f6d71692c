"""IVLP: independent vision-language prompts, MaPLe's ablation (arXiv 2210.03117, table 1).

Each tower has deep prompts of its own, without a coupling between them.
"""

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
class IVLPOptions(Options):
    """Config node TRAINER.IVLP."""

    N_CTX_VISION: int = 2  # prompts in each layer of the image tower
    N_CTX_TEXT: int = 2  # context tokens, and prompts in each layer of the text tower
    CTX_INIT: str = "a photo of a"  # words that the context starts from; ignored if N_CTX_TEXT > 4
    PROMPT_DEPTH_VISION: int = 9  # layers with prompts in the image tower; 0: none
    PROMPT_DEPTH_TEXT: int = 9  # layers with prompts in the text tower


class IVLPCLIP(Method):
    """CLIP with independent deep prompts in both towers."""

    def __init__(self, options: IVLPOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        if options.PROMPT_DEPTH_VISION:
            check_depth(clip, options.PROMPT_DEPTH_VISION, "TRAINER.IVLP.PROMPT_DEPTH_VISION", ["vision"])
        check_depth(clip, options.PROMPT_DEPTH_TEXT, "TRAINER.IVLP.PROMPT_DEPTH_TEXT", ["text"])
        words = words_unless_long(options.CTX_INIT, options.N_CTX_TEXT)
        context, prompt_template = start_context(clip, options.N_CTX_TEXT, words)
        self.prompts = ClassPrompts(clip, prompt_template, classnames, options.N_CTX_TEXT)
        self.prompt_learner = PromptLearner(context)
        depth, n = options.PROMPT_DEPTH_VISION, options.N_CTX_VISION
        self.image_encoder = TowerPrompts(range(depth), n, clip.sizes.vision_width)
        self.text_encoder = TowerPrompts(range(1, options.PROMPT_DEPTH_TEXT), *context.shape)
        self.image_tower_is_frozen = depth == 0

    def text_inputs(self) -> TowerInputs:
        return TowerInputs(self.text_encoder.prompts())

    def image_inputs(self) -> TowerInputs:
        return TowerInputs(self.image_encoder.prompts())

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx, self.text_inputs())


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Independent vision-language prompting."""

    method = IVLPCLIP
    options = IVLPOptions
    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_2+2ctx"
