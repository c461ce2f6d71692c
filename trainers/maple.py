"""MaPLe: Multi-modal Prompt Learning (Khattak et al., CVPR 2023, arXiv 2210.03117).

The text tower has learned prompts in several layers. In each of these layers, a learned linear map computes the image
tower's prompts from the text tower's prompts (section 3.2). So the prompts of the two towers are coupled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clip.inputs import TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    ClassPrompts,
    ContextTokens,
    Depth,
    Method,
    Options,
    PromptTrainer,
    check_depth,
    described,
    start_context,
    words_unless_long,
)


@dataclass(frozen=True)
class MaPLeOptions(Options):
    """The options of MaPLe, in the config node TRAINER.MAPLE."""

    N_CTX: ContextTokens = described(2, "number of context tokens, and number of prompts in each layer")
    CTX_INIT: str = described("a photo of a", "initial words of the context; ignored if N_CTX > 4")
    PROMPT_DEPTH: Depth = described(9, "number of layers with learned prompts, starting at the first layer")
    SHARED_PROJECTION: bool = described(False, "True: all layers share one projection (MaPLe-dagger in the paper)")


class MultiModalPromptLearner(nn.Module):
    """Learns the text prompts P_i (n, text width) of the first J layers, and the linear maps F_i.

    The image prompts of layer i are P~_i = F_i(P_i) (n, vision width).

    Args:
        context: initial value of P_0.
        depth: J, the number of layers with prompts.
        vision_width: width of the image tower.
        shared: True if all layers use the same F (MaPLe-dagger).
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
            start = nn.Linear(width, vision_width).state_dict()  # all layers but the first have the same initial F
            for _ in range(depth - 1):
                self.compound_prompt_projections.append(nn.Linear(width, vision_width))
                self.compound_prompt_projections[-1].load_state_dict(start)

    def text_prompts(self) -> dict[int, torch.Tensor]:
        """Return {layer: prompts} for the layers 1 to J-1. The text prompts P_i of layer i are (n, text width).

        P_0 isn't included, because it is the context.
        """
        return dict(enumerate(self.compound_prompts_text, 1))

    def vision_prompts(self) -> dict[int, torch.Tensor]:
        """Return {layer: prompts} for the layers 0 to J-1. The image prompts P~_i of layer i are (n, vision width)."""
        prompts = torch.stack([self.ctx, *self.compound_prompts_text])  # (J, n, text width)
        layers = [self.proj, *self.compound_prompt_projections]
        if len(layers) == len(prompts):  # one matrix product for all layers, because a GPU needs a launch for each
            weights = torch.stack([layer.weight for layer in layers]).mT  # (J, text width, vision width)
            biases = torch.stack([layer.bias for layer in layers])[:, None]  # (J, 1, vision width)
            coupled = torch.baddbmm(biases, prompts, weights)  # (J, n, vision width)
        else:
            coupled = self.proj(prompts)
        return dict(enumerate(coupled.unbind()))


class MaPLeCLIP(Method):
    """CLIP with coupled prompts in both towers."""

    def __init__(self, options: MaPLeOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        check_depth(clip, options.PROMPT_DEPTH, "TRAINER.MAPLE.PROMPT_DEPTH")
        words = words_unless_long(options.CTX_INIT, options.N_CTX)
        context, prompt_template = start_context(clip, options.N_CTX, words)
        self.prompts = ClassPrompts(clip, prompt_template, classnames, options.N_CTX)
        self.prompt_learner = MultiModalPromptLearner(
            context, options.PROMPT_DEPTH, clip.sizes.vision_width, options.SHARED_PROJECTION
        )

    def text_inputs(self) -> TowerInputs:
        return TowerInputs(self.prompt_learner.text_prompts())

    def image_inputs(self) -> TowerInputs:
        return TowerInputs(self.prompt_learner.vision_prompts())

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx, self.text_inputs())


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Trains MaPLe. With ViT-B/16, 9 layers and 2 prompts in each layer, MaPLe learns 3,555,072 parameters."""

    method = MaPLeCLIP
    options = MaPLeOptions
    checkpoints = {"MultiModalPromptLearner": ""}
    default_config = "vit_b16_c2_ep5_batch4_2ctx"
    cross_dataset_config = "vit_b16_c2_ep5_batch4_2ctx_cross_datasets"
