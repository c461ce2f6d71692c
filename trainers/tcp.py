"""TCP: Textual-based Class-aware Prompt tuning (Yao et al., CVPR 2024, arXiv 2311.18231).

The prompts of all classes share CoOp's context in the first layers of the text tower. From one layer on, each class has
prompts of its own. A learned network, the meta network, computes them from the frozen CLIP's text feature of the class
(section 3.2). So TCP also makes prompts for classes that it wasn't trained on.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn
from yacs.config import CfgNode

from clip.inputs import TowerInputs
from clip.mlp import QuickGELU
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import (
    Batch,
    ClassPrompts,
    ContextTokens,
    Depth,
    Losses,
    Method,
    Options,
    Output,
    PromptTrainer,
    check_depth,
    cosine_distance,
    described,
    frozen_text_features,
    node_of,
    start_context,
    training_dataset,
)


@dataclass(frozen=True)
class TCPOptions(Options):
    """The options of TCP, in the config node TRAINER.TCP."""

    N_CTX: ContextTokens = described(4, "number of context tokens, and of each class's prompts")
    CTX_INIT: bool = described(
        False, 'True: the context starts from the first N_CTX words of "a photo of a"; False: random'
    )
    DEPTH: Depth = described(9, "the layer, counted from 1, whose input gets the prompts of the classes")
    W_KG: float = described(8.0, "weight of the loss `kg`")
    PROMPT_SUFFIX: str = described(
        "", 'the prompts\' text after the context, such as "{} texture."; "": depends on the data set'
    )


class ClassAwarePromptLearner(nn.Module):
    """Holds the context `ctx` (n_ctx, width) and the meta network, which computes the prompts of the classes."""

    def __init__(self, context: torch.Tensor, embed_dim: int):
        super().__init__()
        self.ctx = nn.Parameter(context)
        hidden = embed_dim // 4
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(embed_dim, hidden), gelu=QuickGELU(), linear2=nn.Linear(hidden, context.numel())
            )
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the prompts (n_classes, n_ctx, width) for normalised text features (n_classes, embed_dim)."""
        return self.meta_net(features).unflatten(-1, self.ctx.shape)  # from (n_classes, n_ctx * width)


class TCPCLIP(Method):
    """CLIP with a shared context in the first layers, and a class's own prompts in the others."""

    image_tower_is_frozen = True

    def __init__(self, options: TCPOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        check_depth(clip, options.DEPTH, "TRAINER.TCP.DEPTH", ["text"])
        if options.DEPTH < 2:
            raise InputError(f"TRAINER.TCP.DEPTH is {options.DEPTH}, but the context needs at least one layer before")
        context, _ = start_context(clip, options.N_CTX, "a photo of a" if options.CTX_INIT else "")
        prompt_template = " ".join(["X"] * options.N_CTX + [options.PROMPT_SUFFIX or "{}."])
        self.weight, self.layer = options.W_KG, options.DEPTH - 1
        self.prompts = ClassPrompts(clip, prompt_template, classnames, options.N_CTX)
        self.prompt_learner = ClassAwarePromptLearner(context, clip.sizes.embed_dim)
        self.teacher = frozen_text_features(clip, [template], classnames)  # (n_classes, embed_dim), normalised

    def text_inputs(self) -> TowerInputs:
        return TowerInputs({self.layer: self.prompt_learner(self.teacher)})

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx, self.text_inputs())

    def losses(self, output: Output, batch: Batch) -> Losses:
        assert output.text_features is not None
        return {
            "ce": (1.0, F.cross_entropy(output.logits, batch.labels)),
            "kg": (self.weight, cosine_distance(output.text_features, self.teacher)),
        }


#: Templates of the teacher, if they aren't the data set's template.
_TEACHER_TEMPLATES = {
    "FGVCAircraft": "a photo of an aircraft {}.",
    "DescribableTextures": "a photo of a {}, a type of texture.",
    "Food101": "a photo of a {}, a type of food.",
}
#: The prompts' text after the context, if it isn't "{}.".
_SUFFIXES = {
    "OxfordPets": "{}, a type of pet.",
    "OxfordFlowers": "{}, a type of flower.",
    "FGVCAircraft": "{}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "Food101": "{}, a type of food.",
    "UCF101": "person doing {}.",
    "StanfordCars": "{}, a type of car",  # without a full stop, as in the official code
}


@TRAINER_REGISTRY.register()
class TCP(PromptTrainer):
    """Trains TCP. With ViT-B/16 and 4 context tokens, TCP learns 331,904 parameters."""

    method = TCPCLIP
    options = TCPOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep100_ctxv1"
    official_keys = {"TRAINER.COOP": "TRAINER.TCP"}
    # W is the weight of the class prompts in the official code, where it has no effect.
    fixed_keys = {"CSC": False, "W": None, "ALPHA": None, "CLASS_TOKEN_POSITION": None}

    @classmethod
    def read_options(cls, cfg: CfgNode) -> TCPOptions:
        """Read the options. The default of PROMPT_SUFFIX depends on the tested data set, in all protocols."""
        options = TCPOptions.read(cfg.TRAINER[node_of(cls)])
        return replace(options, PROMPT_SUFFIX=options.PROMPT_SUFFIX or _SUFFIXES.get(cfg.DATASET.NAME, ""))

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the teacher's template, and the number of epochs on the two largest data sets."""
        values: dict[str, object] = {}
        if dataset in _TEACHER_TEMPLATES:
            values["DATASET.TEMPLATE"] = _TEACHER_TEMPLATES[dataset]
        if training_dataset(dataset, protocol) in ("ImageNet", "SUN397"):
            values["OPTIM.MAX_EPOCH"] = 25
        return values
