"""The base class of all methods: a frozen CLIP with learnable parts.

`PromptTrainer` builds a method from options, a CLIP, the class names and a template. For each training batch, the
trainer calls the method's `outputs`, `losses` and `backward`. For each test batch, the trainer calls `forward`, or
`classify` if the image features are cached. Each function has a default, so a method overrides only the functions that
it changes. The CLIP isn't a submodule, so the method's parameters and its state dict contain only the learnable parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from clip.inputs import NO_INPUTS, TowerInputs
from clip.model import CLIP
from dassl.data.datasets import Task
from dassl.metrics import compute_accuracy
from trainers.common.features import TrainingFeatures
from trainers.common.options import Options

#: The classes of a method, in the order of their labels: a list of class names, or a list of tasks with class names.
ClassNames = Sequence[str] | Sequence[Task]
#: Loss terms with their weights: {name: (weight, value)}. Each value is a 0-dimensional tensor.
Losses = Mapping[str, tuple[float, torch.Tensor]]


@dataclass(frozen=True)
class Batch:
    """A training batch on the device.

    If several processes train together, `images` and `views` have only the images of this process, but `labels` has the
    labels of the whole batch. The CLIP's `encode_image` returns the features of the whole batch. So use the length of
    `labels` or of features, not of `images`.
    """

    #: (batch, 3, resolution, resolution); or the images' features (batch, embed_dim), see common/cached_training.py
    images: torch.Tensor
    labels: torch.Tensor  # (batch,), or (batch, n_classes) for several tasks; see datasets/multitask.py
    #: The DATALOADER.K_TRANSFORMS augmentations of the images, each shaped like `images`. views[0] is `images`.
    views: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class Output:
    """The results of a method for a batch of images."""

    logits: torch.Tensor  # (batch, n_classes), float32
    image_features: torch.Tensor  # (batch, embed_dim), normalised
    #: Normalised text features (n_classes, embed_dim), or (batch, n_classes, embed_dim) if they depend on the image.
    text_features: torch.Tensor | None = None

    def detached(self) -> "Output":
        """Return the same output without gradients, so that the autograd graph of the step can be freed."""
        text = None if self.text_features is None else self.text_features.detach()
        images = self.image_features.detach()
        return replace(self, logits=self.logits.detach(), image_features=images, text_features=text)


def normalized(features: torch.Tensor) -> torch.Tensor:
    """Scale features (..., embed_dim) to length 1.

    The result is float32, because in bfloat16 two classes could have exactly the same cosine.
    """
    return F.normalize(features.float(), dim=-1)


def total(losses: Losses) -> torch.Tensor:
    """Return the weighted sum of the loss terms. The training minimises this sum."""
    weighted = [value if weight == 1 else weight * value for weight, value in losses.values() if weight != 0]
    return torch.stack(weighted).sum()


class Method(nn.Module):
    """A frozen CLIP with learnable parts. A subclass is built as `Subclass(options, clip, classnames, template)`.

    Args:
        options: the method's options; each subclass has a separate options class.
        clip: the frozen CLIP.
        classnames: names of the classes, or `Task`s for methods that learn several tasks together.
        template: the data set's zero-shot prompt, with {} in place of the class name.
    """

    clip: CLIP
    text_is_learned = True  # True: the text features depend on a learnable parameter
    text_depends_on_image = False  # True: the text features differ from image to image (CoCoOp)
    image_tower_is_frozen = False  # True: the image tower isn't changed, so evaluation may cache image features
    prompts_at_once = 2000  # if text_depends_on_image: number of prompts that evaluation encodes at once
    has_loop = True  # True: trained in epochs over batches; False: `fit` does all the training
    ignored_keys: tuple[str, ...] = ()  # prefixes of keys that are skipped in official checkpoints
    renamed_keys: Mapping[str, str] = {}  # {key in official checkpoints: our key}
    only_trained_classes = False  # True: the method can't classify classes that it wasn't trained on
    #: True: for all batches of the same shape, a training step runs the same operations with the same numbers. Then the
    #: step may be captured as a CUDA graph. Set False if a step depends on something else, for example on a random draw
    #: of Python, on the number of the step, or on a number of elements that differs between batches.
    has_static_steps = True
    sized_by_data: tuple[str, ...] = ()  # parameters or buffers whose shape is set by `fit` or by a checkpoint

    def __init_subclass__(cls) -> None:
        """Set two attributes to False if the class overrides functions on which they depend.

        `image_tower_is_frozen` depends on how images are encoded, and `has_static_steps` on `backward`. An attribute
        that the class itself sets isn't changed.
        """
        super().__init_subclass__()
        changes_images = {"forward", "encode_image", "image_inputs"} & set(vars(cls))
        if changes_images and "image_tower_is_frozen" not in vars(cls):
            cls.image_tower_is_frozen = False
        if "backward" in vars(cls) and "has_static_steps" not in vars(cls):
            cls.has_static_steps = False

    def __init__(self, options: Options, clip: CLIP, classnames: ClassNames, template: str):
        super().__init__()
        self.__dict__["clip"] = clip  # in this way, the CLIP isn't a submodule; see the module docstring
        self.options = options
        self.classnames = classnames
        self.template = template
        self.has_new_classes = False  # True: some classes weren't in training; set when a checkpoint is loaded
        self._cached_text: tuple[list[tuple[int, int]], torch.Tensor] | None = None
        self._is_frozen = False

    # ---- inputs of the towers ----

    def text_inputs(self) -> TowerInputs:
        """Return the prompts, inserted tokens and adapters of the text tower."""
        return NO_INPUTS

    def image_inputs(self) -> TowerInputs:
        """Return the prompts, inserted tokens and adapters of the image tower."""
        return NO_INPUTS

    # ---- features ----

    def encode_text(self) -> torch.Tensor:
        """Return the text features of all classes (n_classes, embed_dim), not normalised."""
        raise TypeError(f"{type(self).__name__} must define encode_text")

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features (batch, embed_dim), not normalised, of images (batch, 3, resolution, resolution)."""
        return self.clip.encode_image(images, self.image_inputs())

    def text_features(self) -> torch.Tensor:
        """Return the normalised text features of all classes (n_classes, embed_dim).

        Without gradients, the features are cached until a parameter changes. So a test computes the features only
        once, not for each batch. If `text_is_learned` is False, the features are cached in training too.
        """
        if self._is_frozen and self._cached_text is not None:
            return self._cached_text[1]
        if torch.is_grad_enabled() and self.text_is_learned:
            return normalized(self.encode_text())
        state = [(p.data_ptr(), p._version) for p in self.parameters()] if self.text_is_learned else []
        if self._cached_text is None or self._cached_text[0] != state:
            with torch.no_grad():
                self._cached_text = state, normalized(self.encode_text())
        return self._cached_text[1]

    def freeze(self) -> None:
        """Fix what was learned, before an export. The cached text features become constants of the exported model."""
        self._is_frozen = True

    def clear_text_cache(self) -> None:
        """Delete the cached text features.

        If a parameter of the method changes, the text features are recomputed automatically. Call this function after
        changing anything else that the text features depend on.
        """
        self._cached_text = None

    # ---- logits ----

    def classify(self, image_features: torch.Tensor) -> Output:
        """Compute the logits from image features (batch, embed_dim), which aren't normalised yet."""
        images, text = normalized(image_features), self.text_features()
        return Output(self.similarity(images, text), images, text)

    def similarity(self, image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, n_classes), float32: cosine similarities multiplied by `logit_scale`.

        Args:
            image_features: normalised, (batch, embed_dim).
            text_features: normalised, (n_classes, embed_dim), or (batch, n_classes, embed_dim) if they depend on the
                image.
        """
        with torch.autocast(image_features.device.type, enabled=False):  # amp would multiply in half precision
            pairs = "be,ce->bc" if text_features.ndim == 2 else "be,bce->bc"
            cosines = torch.einsum(pairs, image_features, text_features)
            return self.logit_scale * cosines

    @property
    def logit_scale(self) -> torch.Tensor:
        """The 0-dimensional factor exp(`clip.logit_scale`) for the cosines. It is 100 in OpenAI's models."""
        return self.clip.logit_scale.float().exp()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, n_classes), float32, of images (batch, 3, resolution, resolution)."""
        return self.inference(images).logits

    def inference(self, images: torch.Tensor) -> Output:
        """Return the output for images (batch, 3, resolution, resolution) that aren't for training."""
        return self.classify(self.encode_image(images))

    # ---- training ----

    def outputs(self, batch: Batch) -> Output:
        """Compute the output for a training batch. An override may use the labels to compute fewer logits."""
        images = batch.images
        return self.classify(images if images.ndim == 2 else self.encode_image(images))

    def losses(self, output: Output, batch: Batch) -> Losses:
        """Return the loss terms with their weights. By default, the only term is the cross-entropy.

        Every term is logged, and the weighted sum is minimised. A term with weight 0 is only logged.
        """
        return {"ce": (1.0, F.cross_entropy(output.logits, batch.labels))}

    def accuracy(self, output: Output, batch: Batch) -> float:
        """Return the accuracy on a training batch, in percent."""
        return compute_accuracy(output.logits, batch.labels)[0].item()

    def backward(self, losses: Losses, scaler: torch.amp.GradScaler) -> None:
        """Compute the gradients of the parameters from the loss terms. With amp, `scaler` scales the loss.

        An override gets gradients from `gradients`, which is also correct if several processes train together.
        """
        loss = scaler.scale(total(losses))
        if self.clip.sharing is None:
            loss.backward()
            return
        for parameter, gradient in zip(self.learnable(), self.gradients(loss), strict=True):
            parameter.grad = gradient

    def learnable(self) -> list[nn.Parameter]:
        """Return the parameters that are trained. The others have been frozen with `requires_grad_(False)`."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def gradients(self, loss: torch.Tensor, retain_graph: bool = False) -> list[torch.Tensor | None]:
        """Return the gradient of `loss` for each parameter of `learnable`. None: the loss doesn't depend on it.

        If several processes train together, these are the gradients of the whole batch, and all processes must call
        this function.

        Args:
            retain_graph: keep the autograd graph, for another call.
        """
        parameters, sharing = self.learnable(), self.clip.sharing
        if sharing is None:
            return list(torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True))
        # The gradients of all processes are added, so each process computes those of its share of the loss.
        own = torch.autograd.grad(loss / sharing.size, parameters, retain_graph=retain_graph, allow_unused=True)
        return sharing.sum_gradients(parameters, own)

    def fit(self, data: TrainingFeatures) -> None:
        """Learn from image features. Called before the first epoch, or instead of the epochs if `has_loop` is False."""

    def search(self, data: TrainingFeatures) -> None:
        """Choose scalars on the validation images. Runs in evaluation mode, without gradients.

        Called after the last epoch, and after each epoch if validations choose the model or stop the training.
        """

    def end_epoch(self, epoch: int, is_last: bool) -> None:
        """Update the method after epoch number `epoch` (from 0). Called before validation and before saving.

        Called again for the same epoch, with `is_last`, if the validation stops the training.
        """

    @property
    def changes_between_epochs(self) -> bool:
        """True if the class overrides `end_epoch` or `search`, which may replace tensors that a training step reads."""
        return type(self).end_epoch is not Method.end_epoch or type(self).search is not Method.search

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a resumed run needs besides parameters and buffers, such as a running average.

        They are saved in each checkpoint.
        """
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the tensors that `state` returned. They are on the CPU, as all tensors in a checkpoint."""

    def for_classes(self, tensors: dict[str, torch.Tensor], trained: ClassNames | None) -> dict[str, torch.Tensor]:
        """Return a checkpoint's tensors for the classes of this method, if the tensors have rows of classes (TaskRes).

        Called before a checkpoint is loaded. `trained` are the classes that the checkpoint was trained on. None: the
        checkpoint doesn't store them, as official checkpoints.
        """
        return tensors

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: object) -> None:
        """Resize the tensors in `sized_by_data` to the checkpoint's shapes, then load as usual."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        for name in self.sized_by_data:
            if prefix + name in state_dict:
                tensors[name].data = tensors[name].data.new_empty(state_dict[prefix + name].shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
