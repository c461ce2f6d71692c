"""MMRL: Multi-Modal Representation Learning for Vision-Language Models (Guo and Gu, CVPR 2025, arXiv 2503.08497).

A few learned vectors, which belong to no tower, are mapped to tokens of both towers. The tokens are inserted after CLS
and after SOS in the upper layers. The inserted tokens of the image tower give a second image feature (section 3.2).
For trained classes, the logits of both image features are mixed. For new classes, only CLIP's class token is used
(section 3.3).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from clip.inputs import TowerInputs
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
    Precision,
    PromptTrainer,
    Width,
    check_depth,
    cosine_distance,
    described,
    frozen_image_features,
    frozen_text_features,
    normalized,
)


@dataclass(frozen=True)
class MMRLOptions(Options):
    """The options of MMRL, in the config node TRAINER.MMRL."""

    PREC: Precision = "amp"
    ALPHA: float = described(0.7, "share of the class token's logits, and of their loss")
    REG_WEIGHT: float = described(1.0, "weight of the losses `image` and `text` (lambda)")
    REP_LAYERS: tuple[Depth, ...] = described((6, 7, 8, 9, 10, 11, 12), "layers with inserted tokens, counted from 1")
    REP_DIM: Width = described(512, "length of the learned vectors")
    N_REP_TOKENS: ContextTokens = described(5, "number of the learned vectors, and of inserted tokens")
    FUSE: bool = described(True, "False: only the class token's logits are used, also for trained classes")


class TokenLearner(nn.Module, ABC):
    """Holds the learned vectors `compound_rep_tokens` (n, dim). A subclass maps them to tokens of both towers."""

    def __init__(self, options: MMRLOptions):
        super().__init__()
        tokens = torch.empty(options.N_REP_TOKENS, options.REP_DIM)
        self.compound_rep_tokens = nn.Parameter(nn.init.normal_(tokens, std=0.02))

    @abstractmethod
    def text_tokens(self) -> list[torch.Tensor]:
        """Return the text tower's tokens (n, text width) of each layer."""

    @abstractmethod
    def image_tokens(self) -> list[torch.Tensor]:
        """Return the image tower's tokens (n, vision width) of each layer."""


class RepresentationLearner(TokenLearner):
    """The learned vectors, with one linear map for each layer and tower."""

    def __init__(self, options: MMRLOptions, text_width: int, vision_width: int):
        super().__init__(options)
        dim, count = options.REP_DIM, len(options.REP_LAYERS)
        self.compound_rep_tokens_r2vproj = _equal_maps(dim, vision_width, count)
        self.compound_rep_tokens_r2tproj = _equal_maps(dim, text_width, count)

    def text_tokens(self) -> list[torch.Tensor]:
        return [project(self.compound_rep_tokens) for project in self.compound_rep_tokens_r2tproj]

    def image_tokens(self) -> list[torch.Tensor]:
        return [project(self.compound_rep_tokens) for project in self.compound_rep_tokens_r2vproj]


def _equal_maps(dim: int, width: int, count: int) -> nn.ModuleList:
    """Return linear maps that have the same initial values, as in the official code."""
    maps = nn.ModuleList(nn.Linear(dim, width) for _ in range(count))
    for other in maps[1:]:
        other.load_state_dict(maps[0].state_dict())
    return maps


class Projection(nn.Module):
    """MMRL's map from the inserted tokens of the image tower to the embedding, `proj_rep` (vision width, embed_dim)."""

    def __init__(self, vision_width: int, embed_dim: int):
        super().__init__()
        self.proj_rep = nn.Parameter(nn.init.normal_(torch.empty(vision_width, embed_dim), std=vision_width**-0.5))


@dataclass(frozen=True)
class MMRLOutput(Output):
    """An output with the logits of the inserted tokens. `image_features` are those of the class token."""

    rep_logits: torch.Tensor | None = None  # (batch, n_classes), float32

    def detached(self) -> "MMRLOutput":
        plain = super().detached()
        assert isinstance(plain, MMRLOutput)
        assert self.rep_logits is not None
        return replace(plain, rep_logits=self.rep_logits.detach())


class MMRLCLIP(Method):
    """CLIP with inserted tokens in the upper layers of both towers."""

    options: MMRLOptions
    ignored_keys = ("prompt_embeddings",)  # a buffer that the official code saves

    def __init__(self, options: MMRLOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        layers = sorted(options.REP_LAYERS)
        if not layers or len(set(layers)) < len(layers):
            raise InputError(f"REP_LAYERS is {options.REP_LAYERS}, but it must have one or more different layers")
        for layer in layers:
            check_depth(clip, layer, "REP_LAYERS")
        self.layers = [layer - 1 for layer in layers]
        self.prompts = ClassPrompts(clip, template, classnames, 0)
        self.representation_learner, self.image_encoder = self.build_learners()
        self.teacher = frozen_text_features(clip, [template], classnames)  # (n_classes, embed_dim), normalised

    def build_learners(self) -> tuple[TokenLearner, nn.Module]:
        """Return the modules with the official names `representation_learner` and `image_encoder`."""
        sizes = self.clip.sizes
        learner = RepresentationLearner(self.options, sizes.transformer_width, sizes.vision_width)
        return learner, Projection(sizes.vision_width, sizes.embed_dim)

    def rep_projection(self) -> torch.Tensor:
        """Return the map from inserted tokens of the image tower to the embedding, (vision width, embed_dim)."""
        return self.image_encoder.get_parameter("proj_rep")

    @property
    def logit_scale(self) -> torch.Tensor:
        """As in the official code, the factor is 100 for every CLIP."""
        return torch.full((), 100.0, device=self.clip.logit_scale.device)

    @property
    def is_fused(self) -> bool:
        """Whether the logits are the mixed logits. Otherwise, they are the class token's logits."""
        return self.options.FUSE and not self.has_new_classes

    def tower_inputs(self, tokens: Sequence[torch.Tensor]) -> TowerInputs:
        return TowerInputs(inserted=dict(zip(self.layers, tokens, strict=True)))

    def text_inputs(self) -> TowerInputs:
        return self.tower_inputs(self.representation_learner.text_tokens())

    def image_inputs(self) -> TowerInputs:
        return self.tower_inputs(self.representation_learner.image_tokens())

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode_template(self.text_inputs())

    def fused(self, images: torch.Tensor) -> MMRLOutput:
        """Return the output with mixed logits for images (batch, 3, resolution, resolution)."""
        features, rows = self.clip.encode_image_rows(images, self.image_inputs(), "inserted")
        assert rows is not None  # (batch, n, vision width)
        output = self.classify(features)
        assert output.text_features is not None
        rep_features = normalized(rows.float().mean(1) @ self.rep_projection())  # (batch, embed_dim)
        rep_logits = self.similarity(rep_features, output.text_features)
        mixed = self.options.ALPHA * output.logits + (1 - self.options.ALPHA) * rep_logits
        return MMRLOutput(mixed, output.image_features, output.text_features, rep_logits)

    def inference(self, images: torch.Tensor) -> Output:
        return self.fused(images) if self.is_fused else super().inference(images)

    def outputs(self, batch: Batch) -> MMRLOutput:
        return self.fused(batch.images)

    def losses(self, output: Output, batch: Batch) -> Losses:
        assert isinstance(output, MMRLOutput)
        assert output.text_features is not None
        assert output.rep_logits is not None
        alpha, weight = self.options.ALPHA, self.options.REG_WEIGHT
        class_logits = self.similarity(output.image_features, output.text_features)  # (batch, n_classes)
        images = frozen_image_features(self.clip, batch.images)  # (batch, embed_dim)
        return {
            "ce": (alpha, F.cross_entropy(class_logits, batch.labels)),
            "ce_rep": (1 - alpha, F.cross_entropy(output.rep_logits, batch.labels)),
            "image": (weight, cosine_distance(output.image_features, images)),
            "text": (weight, cosine_distance(output.text_features, self.teacher)),
        }


#: {data set: REG_WEIGHT}, for base-to-new and few-shot runs
_REG_WEIGHTS = {
    "ImageNet": 0.5,
    "Caltech101": 0.5,
    "OxfordPets": 0.2,
    "StanfordCars": 7.0,
    "OxfordFlowers": 4.0,
    "Food101": 5.0,
    "FGVCAircraft": 6.0,
    "SUN397": 6.0,
    "DescribableTextures": 6.0,
    "EuroSAT": 0.01,
    "UCF101": 3.0,
}


@TRAINER_REGISTRY.register()
class MMRL(PromptTrainer):
    """Trains MMRL. With ViT-B/16, 7 layers and 5 tokens, MMRL learns 4,992,256 parameters."""

    method = MMRLCLIP
    options = MMRLOptions
    checkpoints = {"MultiModalRepresentationLearner": ""}
    default_config = "vit_b16"
    few_shot_config = "vit_b16_few_shot"
    cross_dataset_config = "vit_b16_cross_datasets"
    # The official commands have TASK B2N, FS or CD. Here, the script's protocol says the same.
    official_keys = {"TASK": "TRAINER.MMRL.TASK"}
    fixed_keys = {"TASK": None}

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the official code's values for the data set, and which logits a cross-dataset run is tested with."""
        if protocol == "cross_dataset":  # the official code uses the class token's logits even on ImageNetV2
            return {"TRAINER.MMRL.FUSE": False} if dataset.startswith("ImageNet") and dataset != "ImageNet" else {}
        values: dict[str, object] = {}
        if dataset in _REG_WEIGHTS:
            values["TRAINER.MMRL.REG_WEIGHT"] = _REG_WEIGHTS[dataset]
        if dataset == "EuroSAT":
            values["TRAINER.MMRL.REP_DIM"] = 2048
        return values | imagenet_schedule(dataset)


def imagenet_schedule(dataset: str) -> dict[str, object]:
    """Return the batch size and number of epochs of base-to-new and few-shot runs on ImageNet. {} for other data."""
    return {"DATALOADER.TRAIN_X.BATCH_SIZE": 32, "OPTIM.MAX_EPOCH": 5} if dataset == "ImageNet" else {}
