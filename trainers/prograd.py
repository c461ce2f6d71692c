"""ProGrad: Prompt-aligned Gradient for Prompt Tuning (Zhu et al., ICCV 2023, arXiv 2205.14865).

ProGrad learns CoOp's context with the cross-entropy. A second loss compares the logits with those of zero-shot CLIP. If
the gradients of the two losses conflict, the part of the first gradient that increases the second loss is removed
(equation 4). The second loss itself is never minimised.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import (
    PAPER_DATASETS,
    Batch,
    ClassPrompts,
    ContextTokens,
    Losses,
    Method,
    Options,
    Output,
    PromptLearner,
    PromptTrainer,
    described,
    frozen_text_features,
    start_context,
    training_dataset,
)


@dataclass(frozen=True)
class ProGradOptions(Options):
    """The options of ProGrad, in the config node TRAINER.PROGRAD."""

    N_CTX: ContextTokens = described(16, "number of context tokens")
    CSC: bool = described(False, "True: learn one context for each class; ignored if CTX_INIT is True")
    CTX_INIT: bool = described(
        False, "True: the last tokens of the context start from the template's words; False: random values"
    )
    LAMBDA: float = described(1.0, "share of the conflicting part that is removed from the gradient")
    T: float = described(1.0, "temperature of the softmax in the loss `kl`")


def context_from_template(clip: CLIP, n_ctx: int, template: str) -> tuple[torch.Tensor, str]:
    """Return the initial context (n_ctx, width) and the prompts' template, for CTX_INIT True.

    The words before the class name have m space-separated words. The context consists of n_ctx - m zero vectors and of
    the embeddings of the first m tokens. A comma is a separate token, so the last tokens may not be part of the
    context. These tokens stay in the prompt as fixed words.

    Raises:
        InputError: the template has no words before the class name, or more than n_ctx words.
    """
    words = template.split("{}")[0].strip()
    n_words = len(words.split())
    if not 1 <= n_words <= n_ctx:
        raise InputError(
            f"the template {template!r} has {n_words} words before the class name, but ProGrad needs 1 to N_CTX "
            f"({n_ctx}). Set DATASET.TEMPLATE or TRAINER.PROGRAD.CTX_INIT False"
        )
    start, prompt = start_context(clip, n_words, words)
    n_zeros = n_ctx - n_words
    return F.pad(start, (0, 0, n_zeros, 0)), " ".join(["X"] * n_zeros + [prompt])


def without_conflict(gradient: torch.Tensor, general: torch.Tensor, strength: float) -> torch.Tensor:
    """Return `gradient` without its part against `general`. Both are gradients of the same parameter.

    If the angle between the two gradients is at most 90 degrees, or if `general` is zero, `gradient` is unchanged.

    Args:
        strength: share of the conflicting part that is removed. With 1, the result is orthogonal to `general`.
    """
    direction = general / general.norm()  # NaN if `general` is zero; then the comparison below is False
    along = (gradient * direction).sum()
    return torch.where(along < 0, gradient - strength * along * direction, gradient)


class ProGradCLIP(Method):
    """CLIP with a learned context, whose gradient doesn't increase the distance to zero-shot CLIP."""

    image_tower_is_frozen = True

    def __init__(self, options: ProGradOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.strength, self.temperature = options.LAMBDA, options.T
        if options.CTX_INIT:
            context, prompt_template = context_from_template(clip, options.N_CTX, template)
        else:
            copies = len(classnames) if options.CSC else 0
            context, prompt_template = start_context(clip, options.N_CTX, "", copies)
        group = torch.arange(len(classnames)) if context.ndim == 3 else None
        self.prompts = ClassPrompts(clip, prompt_template, classnames, options.N_CTX, group=group)
        self.prompt_learner = PromptLearner(context)
        self.teacher = frozen_text_features(clip, [template], classnames)  # (n_classes, embed_dim), normalised

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx)

    def teacher_logits(self, output: Output) -> torch.Tensor:
        """Return the logits (batch, n_classes) of zero-shot CLIP. The image features are those of the frozen tower."""
        return self.similarity(output.image_features, self.teacher)

    def losses(self, output: Output, batch: Batch) -> Losses:
        t = self.temperature
        targets = (self.teacher_logits(output) / t).softmax(-1)
        return {
            "ce": (1.0, F.cross_entropy(output.logits, batch.labels)),
            "kl": (0.0, F.cross_entropy(output.logits / t, targets) * t**2),  # not minimised; see `backward`
        }

    def backward(self, losses: Losses, scaler: torch.amp.GradScaler) -> None:
        """Set the parameters' gradients to those of `ce` without their parts against the gradients of `kl`."""
        (_, ce), (_, kl) = losses["ce"], losses["kl"]
        gradients = self.gradients(scaler.scale(ce), retain_graph=True)
        general = self.gradients(scaler.scale(kl))
        for parameter, gradient, other in zip(self.learnable(), gradients, general, strict=True):
            assert gradient is not None  # all logits depend on the context
            assert other is not None
            parameter.grad = without_conflict(gradient, other, self.strength)


#: Data sets with LAMBDA 0.8 in runs with 8 or 16 shots, except base-to-new and cross-dataset runs.
_WEAKER = ("OxfordFlowers", "DescribableTextures", "EuroSAT")
#: Templates of the prompts and of the teacher, if they aren't the data set's template.
_TEMPLATES = {
    "OxfordPets": "a type of pet, a photo of a {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "DescribableTextures": "a texture of {}.",
    "Food101": "a type of food, a photo of {}.",
}
#: {number of shots: number of epochs} of few-shot runs.
_EPOCHS = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}


@TRAINER_REGISTRY.register()
class ProGrad(PromptTrainer):
    """Trains ProGrad. With 16 context tokens, ProGrad learns 8,192 parameters on ViT-B/16."""

    method = ProGradCLIP
    options = ProGradOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep100"
    official_keys = {"TRAINER.COOP": "TRAINER.PROGRAD", "LOSS": "TRAINER.PROGRAD"}
    fixed_keys = {"CLASS_TOKEN_POSITION": "end", "NAME": "prograd", "GM": False, "ALPHA": None}

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the template, the number of epochs and LAMBDA where the official README or code sets them.

        Runs without a protocol, such as those of `prograd.sh`, are few-shot runs too, but their config file sets the
        number of epochs.
        """
        values: dict[str, object] = {}
        if dataset in _TEMPLATES:
            values["DATASET.TEMPLATE"] = _TEMPLATES[dataset]
        if protocol and training_dataset(dataset, protocol) == "ImageNet":
            values["OPTIM.MAX_EPOCH"] = 50
        elif protocol == "few_shot" and dataset in PAPER_DATASETS and shots in _EPOCHS:
            values["OPTIM.MAX_EPOCH"] = _EPOCHS[shots]
        if protocol in ("few_shot", "") and dataset in _WEAKER and shots in (8, 16):
            values["TRAINER.PROGRAD.LAMBDA"] = 0.8
        return values
