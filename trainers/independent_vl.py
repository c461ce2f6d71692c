"""IVLP and language prompting, two methods that MaPLe's paper uses as ablations (arXiv 2210.03117, table 1).

Both methods learn deep prompts, which are prompts in several layers of a tower. IVLP (independent vision-language
prompts) learns prompts in both towers. Unlike in MaPLe, no projection couples the two towers. Language prompting learns
prompts in the text tower only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.inputs import TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    ClassPrompts,
    ContextTokens,
    Depth,
    Method,
    Options,
    PromptLearner,
    PromptTrainer,
    TowerPrompts,
    VisionTokens,
    check_depth,
    described,
    start_context,
    words_unless_long,
)


@dataclass(frozen=True)
class LanguagePromptingOptions(Options):
    """The options of language prompting, in the config node TRAINER.LANGUAGEPROMPTING."""

    N_CTX_TEXT: ContextTokens = described(
        4, "number of context tokens, and number of prompts in each deeper text layer"
    )
    CTX_INIT: str = described("a photo of a", "initial words of the context; ignored if N_CTX_TEXT > 4")
    PROMPT_DEPTH_TEXT: Depth = described(
        12, "number of layers with prompts in the text tower, starting at the first layer"
    )


@dataclass(frozen=True)
class IVLPOptions(LanguagePromptingOptions):
    """The options of IVLP, in the config node TRAINER.IVLP."""

    N_CTX_TEXT: ContextTokens = 2
    PROMPT_DEPTH_TEXT: Depth = 9
    N_CTX_VISION: VisionTokens = described(2, "number of prompts in each layer of the image tower")
    PROMPT_DEPTH_VISION: Depth = described(
        9, "number of layers with prompts, starting at the first layer; 0: no prompts"
    )


class LanguagePromptedCLIP(Method):
    """CLIP with deep prompts in the text tower. The image tower also has prompts if `vision_depth` isn't 0."""

    def __init__(
        self,
        options: LanguagePromptingOptions,
        clip: CLIP,
        classnames: Sequence[str],
        template: str,
        vision_depth: int = 0,
        n_vision: int = 0,
    ):
        super().__init__(options, clip, classnames, template)
        check_depth(clip, options.PROMPT_DEPTH_TEXT, "PROMPT_DEPTH_TEXT", ["text"])
        words = words_unless_long(options.CTX_INIT, options.N_CTX_TEXT)
        context, prompt_template = start_context(clip, options.N_CTX_TEXT, words)
        self.prompts = ClassPrompts(clip, prompt_template, classnames, options.N_CTX_TEXT)
        self.prompt_learner = PromptLearner(context)
        self.image_encoder = TowerPrompts(range(vision_depth), n_vision, clip.sizes.vision_width)
        self.text_encoder = TowerPrompts(range(1, options.PROMPT_DEPTH_TEXT), *context.shape)
        self.image_tower_is_frozen = vision_depth == 0

    def text_inputs(self) -> TowerInputs:
        return TowerInputs(self.text_encoder.prompts())

    def image_inputs(self) -> TowerInputs:
        return TowerInputs(self.image_encoder.prompts())

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx, self.text_inputs())


class IVLPCLIP(LanguagePromptedCLIP):
    """CLIP with independent deep prompts in both towers."""

    def __init__(self, options: IVLPOptions, clip: CLIP, classnames: Sequence[str], template: str):
        depth = options.PROMPT_DEPTH_VISION
        if depth:
            check_depth(clip, depth, "TRAINER.IVLP.PROMPT_DEPTH_VISION", ["vision"])
        super().__init__(options, clip, classnames, template, depth, options.N_CTX_VISION)


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Trains IVLP (independent vision-language prompting)."""

    method = IVLPCLIP
    options = IVLPOptions
    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_2+2ctx"


@TRAINER_REGISTRY.register()
class LanguagePrompting(PromptTrainer):
    """Trains deep language prompts. As in the original code, the checkpoint folder has the same name as IVLP's."""

    method = LanguagePromptedCLIP
    options = LanguagePromptingOptions
    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_4ctx"
