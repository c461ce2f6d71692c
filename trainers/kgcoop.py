"""KgCoOp: Visual-Language Prompt Tuning with Knowledge-guided Context Optimization (Yao et al., CVPR 2023,
arXiv 2303.13283).

KgCoOp learns CoOp's context. A second loss keeps the text features close to the frozen CLIP's features of a
hand-written template, so that the prompts also fit new classes (section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    Batch,
    ContextTokens,
    Losses,
    Options,
    Output,
    PromptTrainer,
    cosine_distance,
    described,
    frozen_text_features,
)
from trainers.coop import CoOpCLIP, CoOpOptions


@dataclass(frozen=True)
class KgCoOpOptions(Options):
    """The options of KgCoOp, in the config node TRAINER.KGCOOP."""

    N_CTX: ContextTokens = described(16, "number of context tokens; ignored if CTX_INIT is True")
    CSC: bool = described(False, "True: learn one context for each class; ignored if CTX_INIT is True")
    CTX_INIT: bool = described(False, 'True: the context starts from "a photo of a"; False: from random values')
    W: float = described(8.0, "weight of the loss `kg`")


class KgCoOpCLIP(CoOpCLIP):
    """CoOp with a loss that compares the text features with those of the template."""

    ignored_keys = ("bias_vectors", "meta_net.")  # parameters that the official code saves, but never uses

    def __init__(self, options: KgCoOpOptions, clip: CLIP, classnames: Sequence[str], template: str):
        words = "a photo of a" if options.CTX_INIT else ""
        super().__init__(CoOpOptions(options.PREC, options.N_CTX, options.CSC, words), clip, classnames, template)
        self.options, self.weight = options, options.W
        self.teacher = frozen_text_features(clip, [template], classnames)  # (n_classes, embed_dim), normalised

    def losses(self, output: Output, batch: Batch) -> Losses:
        assert output.text_features is not None
        return {
            "ce": (1.0, F.cross_entropy(output.logits, batch.labels)),
            "kg": (self.weight, cosine_distance(output.text_features, self.teacher)),
        }


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTrainer):
    """Trains KgCoOp. With the context "a photo of a", KgCoOp learns 2,048 parameters on ViT-B/16."""

    method = KgCoOpCLIP
    options = KgCoOpOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep100_ctxv1"
    official_keys = {"TRAINER.COOP": "TRAINER.KGCOOP"}
    fixed_keys = {"ALPHA": None, "CLASS_TOKEN_POSITION": None}  # the class name is always at the end

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the teacher's template if it isn't the data set's template, and the batch size of few-shot runs."""
        values: dict[str, object] = {}
        if dataset == "DescribableTextures":
            values["DATASET.TEMPLATE"] = "a photo of a {}, a type of texture."
        if protocol == "few_shot":
            values["DATALOADER.TRAIN_X.BATCH_SIZE"] = 32
        return values
