"""TaskRes: Task Residual for Tuning Vision-Language Models (Yu et al., CVPR 2023, arXiv 2211.10277).

The classifier of CLIP is the text features of the class names. TaskRes keeps these features, and adds a learned
residual to the feature of each class (section 3.2). The towers aren't changed. A residual belongs to one class, so a
new class gets the residual 0, which is zero-shot CLIP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_checkpoint
from trainers.base import (
    CachedOptions,
    CachedTrainer,
    ClassNames,
    Method,
    TrainingFeatures,
    described,
    mean_text_features,
)
from trainers.imagenet_templates import IMAGENET_TEMPLATES_SELECT

NO_FILE = "none"  # the official code's value of ENHANCED_BASE without a file


@dataclass(frozen=True)
class TaskResOptions(CachedOptions):
    """The options of TaskRes, in the config node TRAINER.TaskRes."""

    RESIDUAL_SCALE: float = described(0.5, "factor of the residual (alpha in the paper)")
    ENHANCED_BASE: str = described(
        "none", 'file of a tuned text projection for the base features; "none": CLIP\'s projection'
    )
    ENSEMBLE: bool = described(
        False, "True: average the base features over the template and seven templates for ImageNet"
    )


class ResidualLearner(nn.Module):
    """Holds the frozen base features and the learned residuals, both (n_classes, embed_dim), not normalised."""

    base_text_features: torch.Tensor

    def __init__(self, base: torch.Tensor):
        super().__init__()
        self.register_buffer("base_text_features", base)
        self.text_feature_residuals = nn.Parameter(torch.zeros_like(base))

    def forward(self, scale: float) -> torch.Tensor:
        """Return the text features of all classes (n_classes, embed_dim), not normalised."""
        return self.base_text_features + scale * self.text_feature_residuals


class TaskResCLIP(Method):
    """CLIP with a learned residual for the text feature of each class."""

    options: TaskResOptions
    classnames: Sequence[str]
    image_tower_is_frozen = True

    def __init__(self, options: TaskResOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.prompt_learner = ResidualLearner(self.base_features())

    def base_features(self) -> torch.Tensor:
        """Return the mean over templates of the frozen text features (n_classes, embed_dim), not normalised."""
        templates = [*(IMAGENET_TEMPLATES_SELECT if self.options.ENSEMBLE else []), self.template]
        # As in the official code, the features of "grand_piano" are those of the words with the underscore.
        return mean_text_features(self.clip, templates, self.classnames, average="raw", keep_underscores=True)

    def encode_text(self) -> torch.Tensor:
        return self.prompt_learner(self.options.RESIDUAL_SCALE)

    def fit(self, data: TrainingFeatures) -> None:
        """Compute the base features with the tuned text projection in ENHANCED_BASE. Checkpoints store the result."""
        if self.options.ENHANCED_BASE == NO_FILE:
            return
        projection = self.clip.text_projection
        before = projection.data
        projection.data = read_projection(self.options.ENHANCED_BASE, before)
        try:
            self.prompt_learner.base_text_features.copy_(self.base_features())
        finally:
            projection.data = before
        self.clear_text_cache()

    def for_classes(self, tensors: dict[str, torch.Tensor], trained: ClassNames | None) -> dict[str, torch.Tensor]:
        """Pick the rows of this method's classes. A class that wasn't trained keeps its base, and has no residual."""
        if trained is None or list(trained) == list(self.classnames):
            return tensors
        row_of = {name: row for row, name in enumerate(trained)}
        pairs = [(row, row_of[name]) for row, name in enumerate(self.classnames) if name in row_of]
        ours, theirs = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)  # (n_known,) each
        found = {}
        for name, tensor in tensors.items():
            start = torch.zeros_like(self.prompt_learner.base_text_features)
            if name.endswith("base_text_features"):
                start = self.prompt_learner.base_text_features.clone()
            found[name] = start.index_copy(0, ours.to(start.device), tensor[theirs].to(start))
        return found


def read_projection(path: str, projection: torch.Tensor) -> torch.Tensor:
    """Return the tuned text projection (text width, embed_dim) in an official file, which stores it transposed.

    Args:
        projection: CLIP's text projection, whose shape and dtype the result has.

    Raises:
        InputError: the file doesn't hold such a projection, or the projection has infinite or NaN values.
    """
    state = load_checkpoint(path).get("state_dict")
    weight = state.get("weight") if isinstance(state, Mapping) else None
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2 or weight.t().shape != projection.shape:
        expected = tuple(projection.t().shape)
        raise InputError(f"{path} (TRAINER.TaskRes.ENHANCED_BASE) has no tensor weight of shape {expected}")
    if not torch.isfinite(weight).all():
        raise InputError(f"{path} (TRAINER.TaskRes.ENHANCED_BASE): weight contains infinite or NaN values")
    return weight.t().to(projection)


@TRAINER_REGISTRY.register()
class TaskRes(CachedTrainer):
    """Trains TaskRes. It learns embed_dim parameters per class: 512,000 for ImageNet's classes on ViT-B/16."""

    method = TaskResCLIP
    options = TaskResOptions
    node = "TaskRes"
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "adam_lr2e-3_B256_ep200"
    # The official code has CoOp's keys in its node, where they have no effect.
    official_keys = {"TRAINER.COOP": "TRAINER.TaskRes"}
    fixed_keys = {"N_CTX": None, "CSC": None, "CTX_INIT": None, "CLASS_TOKEN_POSITION": None}

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return the values of the official scripts: by data set, and fewer epochs for at most 4 shots."""
        values: dict[str, object] = {}
        if dataset == "OxfordFlowers":
            values["TRAINER.TaskRes.RESIDUAL_SCALE"] = 1.0
        if dataset == "ImageNet":
            values["TRAINER.TaskRes.ENSEMBLE"] = True
        if dataset == "ImageNet" and protocol:
            values["OPTIM.LR"] = 2e-4
        if protocol == "few_shot" and 1 <= shots <= 4:
            values["OPTIM.MAX_EPOCH"] = 100
        return values

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        file = cfg.TRAINER.TaskRes.ENHANCED_BASE
        if file != NO_FILE and not cfg.TEST.EVAL_ONLY and not Path(file).is_file():
            raise InputError(f"TRAINER.TaskRes.ENHANCED_BASE is {file}, which doesn't exist")
