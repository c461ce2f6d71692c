"""MaPLe: Multi-modal Prompt Learning (Khattak et al., CVPR 2023, arXiv 2210.03117).

Deep prompts in the text tower are learned; those of the image tower are linear functions of them, layer by layer
(section 3.2), so that both modalities are prompted together.
"""

from typing import Any

import torch
from torch import nn

from clip.inputs import TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, PromptTrainer
from trainers.common.prompts import ClassPrompts, check_depth, start_context, words_unless_long


class MultiModalPromptLearner(nn.Module):
    """Text prompts P_i (n, text width) of the first J layers, and the couplings P~_i = F_i(P_i) (n, vision width).

    Args:
        context: P_0, to start from.
        depth: J.
        vision_width: width of the image tower.
        shared: MaPLe-dagger: one F for all layers.
    """

    def __init__(self, context: torch.Tensor, depth: int, vision_width: int, shared: bool):
        super().__init__()
        n, width = context.shape
        self.ctx = nn.Parameter(context)
        self.proj = nn.Linear(width, vision_width)
        self.compound_prompts_text = nn.ParameterList(
            nn.init.normal_(torch.empty(n, width), std=0.02) for _ in range(depth - 1)
        )
        self.compound_prompt_projections = nn.ModuleList()
        if not shared:
            start = nn.Linear(width, vision_width).state_dict()  # all deep couplings start alike
            for _ in range(depth - 1):
                self.compound_prompt_projections.append(nn.Linear(width, vision_width))
                self.compound_prompt_projections[-1].load_state_dict(start)

    def vision_prompts(self) -> list[torch.Tensor]:
        """P~_0 ... P~_{J-1}, each (n, vision width)."""
        deep = list(self.compound_prompts_text)
        projections = self.compound_prompt_projections or [self.proj] * len(deep)
        return [self.proj(self.ctx), *(project(p) for project, p in zip(projections, deep, strict=True))]


class MaPLeCLIP(Method):
    """CLIP with coupled prompts in both towers."""

    def __init__(self, model: CLIP, classes: ClassPrompts, prompt_learner: MultiModalPromptLearner):
        super().__init__(model)
        self.classes = classes
        self.prompt_learner = prompt_learner

    def encode_text(self) -> torch.Tensor:
        prefix = self.classes.with_context(self.prompt_learner.ctx)
        deep = dict(enumerate(self.prompt_learner.compound_prompts_text, 1))
        return self.clip.encode_prompts(prefix, self.classes.class_tokens, self.classes.layout, TowerInputs(deep))

    def image_prompts(self) -> dict[int, torch.Tensor]:
        return dict(enumerate(self.prompt_learner.vision_prompts()))


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Config node TRAINER.MAPLE. ViT-B/16, depth 9, length 2: 3,555,072 parameters."""

    checkpoints = {"MultiModalPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_2ctx"
    cross_dataset_config = "vit_b16_c2_ep5_batch4_2ctx_cross_datasets"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> MaPLeCLIP:
        opts = cls.options(cfg)
        check_depth(model, opts.PROMPT_DEPTH, "TRAINER.MAPLE.PROMPT_DEPTH")
        context, template = start_context(model, opts.N_CTX, words_unless_long(opts.CTX_INIT, opts.N_CTX))
        classes = ClassPrompts.of(model, template, dataset.classnames)
        learner = MultiModalPromptLearner(context, opts.PROMPT_DEPTH, model.sizes.vision_width, opts.SHARED_PROJECTION)
        return MaPLeCLIP(model, classes, learner)
