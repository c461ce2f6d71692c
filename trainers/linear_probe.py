"""Linear probe: logistic regression on frozen image features (Radford et al., 2021, section 3.2), few-shot as in CoOp.

The strength of the L2 penalty is searched on the validation images: first over seven powers of 100, then by halving
the interval around the best one on a logarithmic scale.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import LabelledFeatures, Method, Options, Output, PromptTrainer, TrainingFeatures, normalized

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

#: Inverse strengths of the penalty (scikit-learn's C) that are tried first.
COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
Arrays = tuple[np.ndarray, np.ndarray]  # features (n, d) and labels (n,)


@dataclass(frozen=True)
class LinearProbeOptions(Options):
    """Config node TRAINER.LINEARPROBE."""

    NUM_STEP: int = 8  # halvings in the search for the penalty


def fit(features: np.ndarray, labels: np.ndarray, strength: float) -> "LogisticRegression":
    """Logistic regression with C = `strength`, by L-BFGS, at most 1,000 iterations."""
    from sklearn.linear_model import LogisticRegression  # takes seconds to import

    return LogisticRegression(C=strength, solver="lbfgs", max_iter=1000).fit(features, labels)


def search(train: Arrays, val: Arrays, steps: int = 8) -> float:
    """The C that classifies `val` best: first among COARSE, then by `steps` halvings of [C / 10, 10 C], logarithmic."""

    def score(exponent: float) -> float:
        return fit(*train, 10**exponent).score(*val)

    best = max(map(np.log10, COARSE), key=score)
    low, high = best - 1, best + 1
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if score(low) < score(high) else (low, middle)
    return 10 ** (high if score(low) < score(high) else low)


class ProbedCLIP(Method):
    """CLIP's image tower and a linear classifier of its features. It can't classify other classes."""

    image_tower_is_frozen = True
    text_is_learned = False
    has_loop = False

    def __init__(self, options: LinearProbeOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.n_halvings = options.NUM_STEP
        self.classifier = nn.Linear(clip.sizes.embed_dim, len(classnames))
        #: A checksum of the class names, which a checkpoint must match.
        self.register_buffer("classes", torch.tensor(zlib.crc32("\n".join(classnames).encode())))

    def classify(self, image_features: torch.Tensor) -> Output:
        return Output(self.classifier(image_features.float()), normalized(image_features))

    def fit(self, data: TrainingFeatures) -> None:
        """Search the penalty on the validation images, or on the training images if there are none; then fit."""
        train, validation = _arrays(data.train()), data.val()
        val = train if validation is None else _arrays(validation)
        strength = search(train, val, self.n_halvings)
        source = "training" if validation is None else "validation"
        print(f"C = {strength:.4g}, found on {len(val[1])} {source} images")
        regression = fit(*train, strength)
        weight, bias = regression.coef_, regression.intercept_  # (n_classes, embed_dim), (n_classes,)
        if len(weight) == 1:  # for two classes scikit-learn keeps the second one's weights only
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            self.classifier.weight.copy_(torch.as_tensor(weight))
            self.classifier.bias.copy_(torch.as_tensor(bias))


def _arrays(data: LabelledFeatures) -> Arrays:
    return data.features.numpy(), data.labels.numpy()


@TRAINER_REGISTRY.register()
class LinearProbe(PromptTrainer):
    """Computes features once and has no epochs."""

    method = ProbedCLIP
    options = LinearProbeOptions
    checkpoints = {"linear_probe": ""}
    default_config = "rn50"

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        before = self.model.get_buffer("classes").clone()
        super().load_model(directory, epoch)
        if not torch.equal(self.model.get_buffer("classes"), before):
            raise InputError(f"{directory} was trained on other classes: a linear probe knows no others")
