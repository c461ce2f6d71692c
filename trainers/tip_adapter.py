"""Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification (Zhang et al., ECCV 2022, arXiv 2207.09519).

The features of the training images, the keys, are cached. An image's similarity to the keys of each class is added to
CLIP's zero-shot logits (equation 5). Two scalars, alpha and beta, are searched on validation images. Tip-Adapter-F also
learns the keys; see `tip_adapter_f.py`. On classes that weren't trained, both are zero-shot CLIP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from msgspec import Meta
from torch import nn

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import unknown
from trainers.base import (
    CachedOptions,
    CachedTrainer,
    ClassNames,
    LabelledFeatures,
    Method,
    Output,
    Positive,
    TrainingFeatures,
    described,
    frozen_text_features,
    node_of,
    normalized,
)
from trainers.imagenet_templates import IMAGENET_TEMPLATES_SELECT

_Count = Annotated[int, Meta(ge=1, le=10_000)]
_Steps = Annotated[tuple[_Count, _Count], Meta(description="two numbers from 1 to 10000, for beta and alpha")]
_Scales = Annotated[tuple[float, float], Meta(description="two numbers, for beta and alpha")]


@dataclass(frozen=True)
class TipAdapterOptions(CachedOptions):
    """The options of Tip-Adapter, in the config nodes TRAINER.TIPADAPTER and TRAINER.TIPADAPTERF."""

    AUGMENT_EPOCH: Positive = described(
        10, "the keys are means over this number of augmentations of each training image"
    )
    INIT_ALPHA: float = described(1.17, "weight of the cache's logits, before the search and in training")
    INIT_BETA: float = described(1.0, "sharpness of the similarity to a key, before the search and in training")
    SEARCH_SCALE: _Scales = described((7.0, 3.0), "the search tries values of beta and alpha from 0.1 up to these")
    SEARCH_STEP: _Steps = described((200, 20), "numbers of values of beta and alpha that the search tries")
    SEARCH_ON: str = described(
        "val", "images of the search: val, test (a leak, as in the original code for ImageNet) or none"
    )
    KEEP_BEST_ON: str = described(
        "none", "Tip-Adapter-F: none, or test: test the epoch with the best test accuracy (a leak)"
    )
    ENSEMBLE: bool = described(
        False, "True: use the mean over seven templates for ImageNet instead of the data set's template"
    )


class Cache(nn.Module):
    """Holds the keys `weight` (n_keys, embed_dim): the parameter of Tip-Adapter-F, and a buffer of Tip-Adapter."""

    def __init__(self, keys: torch.Tensor, learned: bool):
        super().__init__()
        if learned:
            self.weight = nn.Parameter(keys)
        else:
            self.register_buffer("weight", keys)


class TipAdapterCLIP(Method):
    """CLIP with a cache of the features of the training images, which isn't trained."""

    options: TipAdapterOptions
    classnames: Sequence[str]
    text_is_learned = False
    image_tower_is_frozen = True
    has_loop = False
    learns_keys = False
    sized_by_data = ("adapter.weight", "values")
    class_labels: torch.Tensor  # (n_classes,) 0 to n_classes - 1
    values: torch.Tensor  # (n_keys,) label of each key, or -1 if the key is of a class that isn't in `classnames`
    alpha: torch.Tensor  # 0-dimensional
    beta: torch.Tensor  # 0-dimensional

    def __init__(self, options: TipAdapterOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        if options.SEARCH_ON not in ("val", "test", "none"):
            raise unknown("images (SEARCH_ON)", options.SEARCH_ON, ("val", "test", "none"))
        if options.KEEP_BEST_ON not in ("test", "none"):
            raise unknown("images (KEEP_BEST_ON)", options.KEEP_BEST_ON, ("test", "none"))
        self.text = self.encode_text()
        self.adapter = Cache(self.text.clone(), self.learns_keys)  # `fit` replaces these keys
        self.register_buffer("values", torch.arange(len(classnames), device=self.text.device))
        self.register_buffer("class_labels", torch.arange(len(classnames), device=self.text.device), persistent=False)
        self.register_buffer("alpha", torch.tensor(options.INIT_ALPHA))
        self.register_buffer("beta", torch.tensor(options.INIT_BETA))

    def encode_text(self) -> torch.Tensor:
        templates = IMAGENET_TEMPLATES_SELECT if self.options.ENSEMBLE else [self.template]
        return frozen_text_features(self.clip, templates, self.classnames)

    @property
    def logit_scale(self) -> torch.Tensor:
        """As in the official code, the factor is 100 for every CLIP."""
        return torch.full((), 100.0, device=self.clip.logit_scale.device)

    def classify(self, image_features: torch.Tensor) -> Output:
        output = super().classify(image_features)
        alpha, beta = (self.options.INIT_ALPHA, self.options.INIT_BETA) if self.training else (self.alpha, self.beta)
        cached = self.cache_logits(output.image_features, beta)
        return replace(output, logits=output.logits + alpha * cached)

    def cache_logits(self, images: torch.Tensor, beta: torch.Tensor | float) -> torch.Tensor:
        """Return the cache's logits (batch, n_classes). `images` are normalised features (batch, embed_dim)."""
        return self.near_keys(images).sub(1).mul(beta).exp() @ self.one_hot()

    def near_keys(self, images: torch.Tensor) -> torch.Tensor:
        """Return the similarity of images to keys (batch, n_keys)."""
        with torch.autocast(images.device.type, enabled=False):  # amp would multiply in half precision
            return images @ self.adapter.weight.t()

    def one_hot(self) -> torch.Tensor:
        """Return the keys' labels as rows (n_keys, n_classes). A key of an unknown class has a row of zeros."""
        return (self.values[:, None] == self.class_labels).float()

    def fit(self, data: TrainingFeatures) -> None:
        """Compute the keys. The features of all augmentations are averaged, and then normalised."""
        train = data.train(passes=self.options.AUGMENT_EPOCH)
        self.adapter.weight.data = normalized(train.features).to(self.text.device)
        self.values = train.labels.to(self.text.device)

    def search(self, data: TrainingFeatures) -> None:
        """Choose beta and alpha. The first pair with the best accuracy is taken; alpha is the inner loop."""
        images = None
        if self.options.SEARCH_ON != "none":
            images = data.test() if self.options.SEARCH_ON == "test" else data.val()
        if images is None:
            print("Tip-Adapter: no search for alpha and beta, because there are no images for it")
            return
        grid = self.accuracies(images)  # (values of beta, values of alpha)
        best, (betas, alphas) = int(grid.argmax()), self.grid()
        if not grid.flatten()[best] > 0:
            return  # the original code would set both to 0
        self.beta.fill_(betas[best // len(alphas)])
        self.alpha.fill_(alphas[best % len(alphas)])
        print(
            f"Tip-Adapter: alpha {self.alpha.item():.4g}, beta {self.beta.item():.4g}, "
            f"chosen on {len(images.labels)} {self.options.SEARCH_ON} images"
        )

    def grid(self) -> tuple[list[float], list[float]]:
        """Return the values of beta and of alpha that the search tries."""
        beta, alpha = (
            [0.1 + i * (scale - 0.1) / steps for i in range(steps)]
            for scale, steps in zip(self.options.SEARCH_SCALE, self.options.SEARCH_STEP, strict=True)
        )
        return beta, alpha

    @torch.no_grad()
    def accuracies(self, images: LabelledFeatures) -> torch.Tensor:
        """Return the accuracy in percent for each pair (values of beta, values of alpha), float64, on the CPU."""
        features, labels = (part.to(self.text.device) for part in images)
        features, (betas, alphas) = normalized(features), self.grid()
        zero_shot = self.similarity(features, self.text_features())  # (n_images, n_classes)
        correct = torch.zeros(len(betas), len(alphas), dtype=torch.long, device=self.text.device)
        for row, beta in enumerate(betas):
            cached = self.cache_logits(features, beta)
            for column, alpha in enumerate(alphas):
                correct[row, column] = ((zero_shot + alpha * cached).argmax(1) == labels).sum()
        return 100 * correct.cpu().double() / len(labels)

    def for_classes(self, tensors: dict[str, torch.Tensor], trained: ClassNames | None) -> dict[str, torch.Tensor]:
        """Translate the keys' labels to the classes of this method."""
        if trained is None:
            return tensors
        label_of = {name: label for label, name in enumerate(self.classnames)}
        labels = torch.tensor([label_of.get(str(name), -1) for name in trained])
        return tensors | {"values": labels[tensors["values"].cpu()]}


#: {data set: (beta and alpha of SEARCH_SCALE, INIT_ALPHA)}
_BY_DATASET = {
    "ImageNet": ((7.0, 3.0), 1.17),
    "Caltech101": ((12.0, 5.0), 3.0),
    "OxfordPets": ((7.0, 3.0), 1.17),
    "StanfordCars": ((20.0, 10.0), 3.0),
    "OxfordFlowers": ((50.0, 50.0), 10.0),
    "Food101": ((10.0, 10.0), 1.17),
    "FGVCAircraft": ((30.0, 30.0), 5.0),
    "SUN397": ((12.0, 10.0), 1.17),
    "DescribableTextures": ((13.0, 13.0), 2.0),
    "EuroSAT": ((12.0, 10.0), 2.0),
    "UCF101": ((7.0, 3.0), 3.0),
}


@TRAINER_REGISTRY.register()
class TipAdapter(CachedTrainer):
    """Builds Tip-Adapter's cache. There are no epochs, and nothing is trained."""

    method = TipAdapterCLIP
    options = TipAdapterOptions
    checkpoints = {"tip_adapter": ""}
    default_config = "rn50"

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the official values for the data set."""
        if dataset not in _BY_DATASET:
            return {}
        scale, alpha = _BY_DATASET[dataset]
        values = {"SEARCH_SCALE": scale, "INIT_ALPHA": alpha, "ENSEMBLE": dataset == "ImageNet"}
        return {f"TRAINER.{node_of(cls)}.{key}": value for key, value in values.items()}

    def result_fields(self) -> dict[str, object]:
        """Return the usual fields, and the values of alpha and beta."""
        method = self.model
        assert isinstance(method, TipAdapterCLIP)
        return super().result_fields() | {"alpha": method.alpha.item(), "beta": method.beta.item()}
