"""PromptSRC: Self-regulating Prompts (Khattak et al., ICCV 2023, arXiv 2307.06948).

PromptSRC learns IVLP's prompts. Three losses keep the text features, the image features and the logits close to those
of the frozen CLIP (section 3.2.1). The tested prompts are an average over epochs with Gaussian weights (section 3.2.2).
The frozen text features come from an ensemble of templates (section 3.2.3).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import (
    ENSEMBLE_TEMPLATES,
    Batch,
    ContextTokens,
    Losses,
    Output,
    PromptTrainer,
    VisionTokens,
    check_depth,
    described,
    frozen_image_features,
    frozen_text_features,
)
from trainers.independent_vl import IVLPOptions, LanguagePromptedCLIP


@dataclass(frozen=True)
class PromptSRCOptions(IVLPOptions):
    """The options of PromptSRC, in the config node TRAINER.PROMPTSRC."""

    N_CTX_TEXT: ContextTokens = 4
    N_CTX_VISION: VisionTokens = 4
    TEXT_LOSS_WEIGHT: float = described(25.0, "weight of the loss `text`")
    IMAGE_LOSS_WEIGHT: float = described(10.0, "weight of the loss `image`")
    GPA_MEAN: float = described(15.0, "epoch, counted from 1, with the largest weight in the average of the prompts")
    GPA_STD: float = described(1.0, "standard deviation of the weights, in epochs")


class GaussianAverage:
    """A weighted average of tensors over epochs. Epoch e has the weight exp(-(e - mean)^2 / (2 std^2)).

    Epochs are counted from 1 in this formula. The average is correct after each epoch, because it doesn't need the sum
    of all weights in advance.
    """

    def __init__(self, mean: float, std: float):
        if std <= 0:
            raise InputError(f"TRAINER.PROMPTSRC.GPA_STD is {std}, but it must be greater than 0")
        self.mean, self.std = mean, std
        self.newest = -1  # the last epoch that was added
        self.log_total = -math.inf  # logarithm of the sum of the weights so far; the weights themselves could underflow
        self.tensors: dict[str, torch.Tensor] = {}  # the average so far, on the CPU

    def add(self, epoch: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Add the tensors at the end of an epoch, unless they were added already. `epoch` is counted from 0."""
        if epoch == self.newest:  # early stopping ends an epoch twice
            return
        self.newest = epoch
        log_weight = -((epoch + 1 - self.mean) ** 2) / (2 * self.std**2)
        largest = max(self.log_total, log_weight)
        self.log_total = largest + math.log(math.exp(self.log_total - largest) + math.exp(log_weight - largest))
        share = math.exp(log_weight - self.log_total)  # weight of this epoch in the average so far
        for name, tensor in tensors.items():
            before = self.tensors.get(name, tensor)
            self.tensors[name] = before + share * (tensor - before)


class PromptSRCCLIP(LanguagePromptedCLIP):
    """IVLP with losses that compare features and logits with those of the frozen CLIP."""

    options: PromptSRCOptions
    classnames: Sequence[str]
    ignored_keys = ("prompt_learner.ZS_image_encoder.",)  # the official code saves a second, frozen image tower

    def __init__(self, options: PromptSRCOptions, clip: CLIP, classnames: Sequence[str], template: str):
        depth = options.PROMPT_DEPTH_VISION
        if depth:
            check_depth(clip, depth, "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", ["vision"])
        super().__init__(options, clip, classnames, template, depth, options.N_CTX_VISION)
        self.average = GaussianAverage(options.GPA_MEAN, options.GPA_STD)

    @cached_property
    def teacher(self) -> torch.Tensor:
        """The frozen text features (n_classes, embed_dim), normalised. They are computed in the first training step."""
        return frozen_text_features(self.clip, ENSEMBLE_TEMPLATES, self.classnames, average="raw")

    def teacher_images(self, output: Output, batch: Batch) -> torch.Tensor:
        """Return the frozen image features (batch, embed_dim), normalised."""
        if self.image_tower_is_frozen:  # without image prompts, these are the method's features
            return output.image_features.detach()
        return frozen_image_features(self.clip, batch.images)

    def losses(self, output: Output, batch: Batch) -> Losses:
        assert output.text_features is not None
        images = self.teacher_images(output, batch)
        expected = self.similarity(images, self.teacher).log_softmax(-1)  # (batch, n_classes)
        divergence = F.kl_div(output.logits.log_softmax(-1), expected, reduction="sum", log_target=True)
        return {
            "ce": (1.0, F.cross_entropy(output.logits, batch.labels)),
            "text": (self.options.TEXT_LOSS_WEIGHT, F.l1_loss(output.text_features, self.teacher)),
            "image": (self.options.IMAGE_LOSS_WEIGHT, F.l1_loss(output.image_features, images)),
            # As in the official code, the sum is divided by batch * n_classes, not by batch.
            "logits": (1.0, divergence / expected.numel()),
        }

    def end_epoch(self, epoch: int, is_last: bool) -> None:
        """Add the prompts to the average. After the last epoch, the average replaces the prompts."""
        self.average.add(epoch, {name: p.detach().cpu() for name, p in self.named_parameters()})
        if is_last:
            with torch.no_grad():
                for name, p in self.named_parameters():
                    p.copy_(self.average.tensors[name])

    def state(self) -> dict[str, torch.Tensor]:
        log_total = torch.tensor(self.average.log_total, dtype=torch.float64)
        return {"log_total": log_total, **self.average.tensors}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.average.tensors = dict(state)
        self.average.log_total = self.average.tensors.pop("log_total").item()


#: Data sets whose few-shot runs average over the last epochs. The config file's values are for the other data sets.
_LATE_AVERAGE = ("StanfordCars", "OxfordFlowers", "FGVCAircraft", "DescribableTextures", "EuroSAT")


@TRAINER_REGISTRY.register()
class PromptSRC(PromptTrainer):
    """Trains PromptSRC. With ViT-B/16, 9 layers and 4 prompts in each layer, PromptSRC learns 46,080 parameters."""

    method = PromptSRCCLIP
    options = PromptSRCOptions
    checkpoints = {"VLPromptLearner": ""}
    default_config = "vit_b16_c2_ep20_batch4_4+4ctx"
    few_shot_config = "vit_b16_c2_ep50_batch4_4+4ctx_few_shot"
    cross_dataset_config = "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets"

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the epochs of the average in few-shot runs, if they aren't those of the config file."""
        late = protocol == "few_shot" and dataset in _LATE_AVERAGE
        return {"TRAINER.PROMPTSRC.GPA_MEAN": 45.0, "TRAINER.PROMPTSRC.GPA_STD": 5.0} if late else {}
