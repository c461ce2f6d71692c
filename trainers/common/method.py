"""The base class of all methods: a frozen CLIP with learnable parts around it.

`PromptTrainer` builds a method from its options, a CLIP, the class names and a template, then calls `outputs`,
`losses` and `backward` for each batch, and `classify` for each test batch. Every step has a default, so a method
overrides only what it changes. The CLIP is not a submodule: the method's parameters and its state dict are the
learnable parts alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from clip.inputs import NO_INPUTS, TowerInputs
from clip.model import CLIP
from dassl.data.datasets import Task
from dassl.metrics import compute_accuracy
from trainers.common.features import TrainingFeatures
from trainers.common.options import Options

#: What a method classifies: class names in the order of their labels, or several tasks.
ClassNames = Sequence[str] | Sequence[Task]
#: Loss terms by name, each with its weight: name -> (weight, value). Values are 0-dimensional tensors.
Losses = Mapping[str, tuple[float, torch.Tensor]]


@dataclass(frozen=True)
class Batch:
    """A training batch on the device."""

    images: torch.Tensor  # (batch, 3, resolution, resolution)
    labels: torch.Tensor  # (batch,), or (batch, n_classes) for several tasks: see datasets/multitask.py
    views: tuple[torch.Tensor, ...] = ()  # all DATALOADER.K_TRANSFORMS augmentations; the first one is `images`


@dataclass(frozen=True)
class Output:
    """What a method computes for a batch of images."""

    logits: torch.Tensor  # (batch, n_classes), float32
    image_features: torch.Tensor  # (batch, embed_dim), normalised
    text_features: torch.Tensor | None = None  # (n_classes, embed_dim), normalised; (batch, n_classes, embed_dim)


def normalized(features: torch.Tensor) -> torch.Tensor:
    """Features (..., embed_dim) at length 1, in float32: cosines in bfloat16 would tie."""
    return F.normalize(features.float(), dim=-1)


def total(losses: Losses) -> torch.Tensor:
    """The weighted sum of loss terms, which the training minimises."""
    return torch.stack([value if weight == 1 else weight * value for weight, value in losses.values()]).sum()


class Method(nn.Module):
    """A frozen CLIP and what is learned around it. Subclasses are built as `Subclass(options, clip, names, template)`.

    Args:
        options: the method's options; the subclass declares their type.
        clip: the frozen CLIP.
        classnames: names of the classes, or `Task`s for methods that learn several tasks together.
        template: the data set's zero-shot prompt with {} for the class name.
    """

    clip: CLIP
    text_is_learned = True  # the text features depend on a learnable parameter
    text_depends_on_image = False  # each image has text features of its own (CoCoOp)
    image_tower_is_frozen = False  # image features are CLIP's, so evaluation may use cached ones
    prompts_at_once = 2000  # prompts encoded at once in evaluation if the text depends on the image: bounds memory
    has_loop = True  # trained in epochs over batches; otherwise `fit` does all the training
    ignored_keys: tuple[str, ...] = ()  # beginnings of checkpoint keys that aren't learned (official files)
    renamed_keys: Mapping[str, str] = {}  # key in official checkpoints -> our name
    sized_by_data: tuple[str, ...] = ()  # parameters or buffers that take their shape from `fit` or a checkpoint

    def __init__(self, options: Options, clip: CLIP, classnames: ClassNames, template: str):
        super().__init__()
        self.__dict__["clip"] = clip  # not a submodule: see the module docstring
        self.options = options
        self.classnames = classnames
        self.template = template
        self.has_new_classes = False  # whether the classes are others than those of the training; set by the trainer
        self._cached_text: tuple[list[tuple[int, int]], torch.Tensor] | None = None

    # ---- what the towers get ----

    def text_inputs(self) -> TowerInputs:
        """Prompts, inserted tokens and adapters of the text tower."""
        return NO_INPUTS

    def image_inputs(self) -> TowerInputs:
        """Prompts, inserted tokens and adapters of the image tower."""
        return NO_INPUTS

    # ---- features ----

    def encode_text(self) -> torch.Tensor:
        """Features of all classes (n_classes, embed_dim), not normalised."""
        raise TypeError(f"{type(self).__name__} must define encode_text")

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images (batch, 3, resolution, resolution) -> features (batch, embed_dim), not normalised."""
        return self.clip.encode_image(images, self.image_inputs())

    def text_features(self) -> torch.Tensor:
        """Normalised features of all classes (n_classes, embed_dim).

        Without gradients they are cached until a parameter changes: a test computes them once, not once a batch.
        They are always cached if nothing in the text tower is learned.
        """
        if torch.is_grad_enabled() and self.text_is_learned:
            return normalized(self.encode_text())
        state = [(p.data_ptr(), p._version) for p in self.parameters()] if self.text_is_learned else []
        if self._cached_text is None or self._cached_text[0] != state:
            with torch.no_grad():
                self._cached_text = state, normalized(self.encode_text())
        return self._cached_text[1]

    def clear_text_cache(self) -> None:
        """Drop the cached text features. Call it after changing anything but the method's own parameters."""
        self._cached_text = None

    # ---- logits ----

    def classify(self, image_features: torch.Tensor) -> Output:
        """Image features (batch, embed_dim), not normalised -> logits and the features behind them."""
        images, text = normalized(image_features), self.text_features()
        return Output(self.similarity(images, text), images, text)

    def similarity(self, image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Scaled cosines (batch, n_classes), float32.

        Args:
            image_features: normalised, (batch, embed_dim).
            text_features: normalised, (n_classes, embed_dim), or (batch, n_classes, embed_dim) by image.
        """
        with torch.autocast(image_features.device.type, enabled=False):  # amp would multiply in half precision
            pairs = "be,ce->bc" if text_features.ndim == 2 else "be,bce->bc"
            cosines = torch.einsum(pairs, image_features, text_features)
            return self.logit_scale * cosines

    @property
    def logit_scale(self) -> torch.Tensor:
        """The factor of the cosines, 0-dimensional: exp of CLIP's logit scale, 100 for OpenAI's models."""
        return self.clip.logit_scale.float().exp()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (batch, 3, resolution, resolution) -> logits (batch, n_classes), float32."""
        return self.classify(self.encode_image(images)).logits

    # ---- training ----

    def outputs(self, batch: Batch) -> Output:
        """The output in training. A method may use the labels to skip work."""
        return self.classify(self.encode_image(batch.images))

    def losses(self, output: Output, batch: Batch) -> Losses:
        """Loss terms with their weights: the cross-entropy alone unless a method adds others.

        Every term is logged, and the weighted sum is minimised. A term of weight 0 is only logged.
        """
        return {"ce": (1.0, F.cross_entropy(output.logits, batch.labels))}

    def accuracy(self, output: Output, batch: Batch) -> float:
        """Accuracy of a training batch, in percent."""
        return compute_accuracy(output.logits, batch.labels)[0].item()

    def backward(self, losses: Losses, scaler: torch.amp.GradScaler) -> None:
        """Compute the parameters' gradients from the loss terms. `scaler` scales a loss under amp."""
        scaler.scale(total(losses)).backward()

    def fit(self, data: TrainingFeatures) -> None:
        """Learn from image features before the first epoch: all of the training if `has_loop` is False."""

    def search(self, data: TrainingFeatures) -> None:
        """Choose scalars on the validation images, after the last epoch and before the last checkpoint."""

    def end_epoch(self, epoch: int, is_last: bool) -> None:
        """Called after the batches of epoch number `epoch` (from 0), before validation and checkpoint."""

    def state(self) -> dict[str, torch.Tensor]:
        """What a resume needs beside parameters and buffers, such as a running average. Saved in each checkpoint."""
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` returned."""

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: object) -> None:
        """Give the tensors in `sized_by_data` the checkpoint's shapes, then load as usual."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        for name in self.sized_by_data:
            if prefix + name in state_dict:
                tensors[name].data = tensors[name].data.new_empty(state_dict[prefix + name].shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
