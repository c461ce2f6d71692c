"""IVLP: independent vision-language prompts, MaPLe's ablation (arXiv 2210.03117, table 1), and deep language prompting.

Each tower has deep prompts of its own, with no coupling between them.
"""

from collections.abc import Sequence
from typing import Any

import torch

from clip.inputs import TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, PromptTrainer
from trainers.common.prompts import (
    ClassPrompts,
    PromptLearner,
    TowerPrompts,
    check_depth,
    start_context,
    words_unless_long,
)


class IndependentCLIP(Method):
    """CLIP with prompts in both towers, or in the text tower alone."""

    def __init__(
        self,
        model: CLIP,
        classes: ClassPrompts,
        context: torch.Tensor,
        text_depth: int,
        n_vision: int = 0,
        vision_depth: int = 0,
    ):
        super().__init__(model)
        self.classes = classes
        self.prompt_learner = PromptLearner(context)
        self.image_encoder = TowerPrompts(range(vision_depth), n_vision, model.sizes.vision_width)
        self.text_encoder = TowerPrompts(range(1, text_depth), *context.shape)

    def encode_text(self) -> torch.Tensor:
        prefix = self.classes.with_context(self.prompt_learner.ctx)
        return self.clip.encode_prompts(
            prefix, self.classes.class_tokens, self.classes.layout, TowerInputs(self.text_encoder.prompts())
        )

    def image_prompts(self) -> dict[int, torch.Tensor]:
        return self.image_encoder.prompts()


def text_prompts(model: CLIP, opts: Any, key: str, classnames: Sequence[str]) -> tuple[ClassPrompts, torch.Tensor]:
    """The classes' prompts and the context to learn, from N_CTX_TEXT, CTX_INIT and PROMPT_DEPTH_TEXT of a node."""
    check_depth(model, opts.PROMPT_DEPTH_TEXT, f"{key}.PROMPT_DEPTH_TEXT", ["text"])
    context, template = start_context(model, opts.N_CTX_TEXT, words_unless_long(opts.CTX_INIT, opts.N_CTX_TEXT))
    return ClassPrompts.of(model, template, classnames), context


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Config node TRAINER.IVLP."""

    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_2+2ctx"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> IndependentCLIP:
        opts = cls.options(cfg)
        if opts.PROMPT_DEPTH_VISION:  # 0: none
            check_depth(model, opts.PROMPT_DEPTH_VISION, "TRAINER.IVLP.PROMPT_DEPTH_VISION", ["vision"])
        classes, context = text_prompts(model, opts, "TRAINER.IVLP", dataset.classnames)
        depths = opts.PROMPT_DEPTH_TEXT, opts.N_CTX_VISION, opts.PROMPT_DEPTH_VISION
        return IndependentCLIP(model, classes, context, *depths)


@TRAINER_REGISTRY.register()
class LanguagePrompting(PromptTrainer):
    """IVLP without prompts in the image tower. Config node TRAINER.LANGUAGEPROMPTING."""

    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_4ctx"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> IndependentCLIP:
        opts = cls.options(cfg)
        classes, context = text_prompts(model, opts, "TRAINER.LANGUAGEPROMPTING", dataset.classnames)
        return IndependentCLIP(model, classes, context, opts.PROMPT_DEPTH_TEXT)
