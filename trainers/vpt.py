"""VPT: Visual Prompt Tuning (Jia et al., ECCV 2022, arXiv 2203.12119) of CLIP's image tower, shallow or deep.

MaPLe's ablation: prompts in the image tower alone, with fixed words before the class names.
"""

from typing import Any

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, PromptTrainer
from trainers.common.prompts import TowerPrompts, check_depth, tokenize_classes


class VisionPromptedCLIP(Method):
    """CLIP with prompts in the image tower; its text features never change."""

    learns_text = False

    def __init__(self, model: CLIP, ids: torch.Tensor, n: int, depth: int):
        super().__init__(model)
        self.ids = ids.to(model.logit_scale.device)  # (classes, context length)
        self.image_encoder = TowerPrompts(range(depth), n, model.sizes.vision_width)

    def encode_text(self) -> torch.Tensor:
        return self.clip.encode_text(self.ids)

    def image_prompts(self) -> dict[int, torch.Tensor]:
        return self.image_encoder.prompts()


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    """Config node TRAINER.VPT. PROMPT_DEPTH_VISION 1 is VPT-shallow."""

    checkpoints = {"prompt_learner": ""}
    default_config = "vit_b16_c2_ep5_batch4_4"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> VisionPromptedCLIP:
        opts = cls.options(cfg)
        check_depth(model, opts.PROMPT_DEPTH_VISION, "TRAINER.VPT.PROMPT_DEPTH_VISION", ["vision"])
        words = opts.CTX_INIT.replace("_", " ")
        ids = tokenize_classes(model, f"{words} {{}}.", dataset.classnames)
        return VisionPromptedCLIP(model, ids, opts.N_CTX_VISION, opts.PROMPT_DEPTH_VISION)
