"""VPT: Visual Prompt Tuning (Jia et al., ECCV 2022, arXiv 2203.12119), applied to CLIP's image tower.

The first layer (VPT-shallow) or several layers (VPT-deep) of the image tower have learned prompts. The words before the
class names are fixed. MaPLe's paper uses VPT as an ablation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.inputs import TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    Depth,
    Method,
    Options,
    PromptTrainer,
    TowerPrompts,
    VisionTokens,
    check_depth,
    described,
    tokenize_classes,
)


@dataclass(frozen=True)
class VPTOptions(Options):
    """The options of VPT, in the config node TRAINER.VPT."""

    N_CTX_VISION: VisionTokens = described(2, "number of prompts in each layer")
    CTX_INIT: str = described("a photo of a", "the fixed words before each class name")
    PROMPT_DEPTH_VISION: Depth = described(
        1, "number of layers with prompts, starting at the first layer; 1: VPT-shallow"
    )


class VisionPromptedCLIP(Method):
    """CLIP with learned prompts in the image tower. The text features are constant."""

    text_is_learned = False

    def __init__(self, options: VPTOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        depth = options.PROMPT_DEPTH_VISION
        check_depth(clip, depth, "TRAINER.VPT.PROMPT_DEPTH_VISION", ["vision"])
        words = options.CTX_INIT.replace("_", " ")
        ids = tokenize_classes(clip, f"{words} {{}}.", classnames)
        self.ids = ids.to(clip.logit_scale.device)  # (n_classes, context length)
        self.image_encoder = TowerPrompts(range(depth), options.N_CTX_VISION, clip.sizes.vision_width)

    def image_inputs(self) -> TowerInputs:
        return TowerInputs(self.image_encoder.prompts())

    def encode_text(self) -> torch.Tensor:
        return self.clip.encode_text(self.ids)


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    """Trains VPT (visual prompt tuning)."""

    method = VisionPromptedCLIP
    options = VPTOptions
    checkpoints = {"prompt_learner": ""}
    default_config = "vit_b16_c2_ep5_batch4_4"
