"""Linear probe: logistic regression on frozen image features (Radford et al., 2021, section 3.2).

The few-shot setting follows CoOp's paper. The strength of the L2 penalty is chosen on the validation images. The
search first tries seven powers of 100. Then it repeatedly halves an interval around the best power, on a log scale.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import nn

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import (
    LabelledFeatures,
    Method,
    Options,
    Output,
    PromptTrainer,
    TrainingFeatures,
    described,
    normalized,
)

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

#: The search first tries these values of scikit-learn's C. C is the inverse strength of the penalty.
COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
Arrays = tuple[np.ndarray, np.ndarray]  # features (n, d) and labels (n,)


@dataclass(frozen=True)
class LinearProbeOptions(Options):
    """The options of the linear probe, in the config node TRAINER.LINEARPROBE."""

    NUM_STEP: Annotated[int, Meta(ge=0, le=100)] = described(
        8, "number of times that the search for the penalty halves the interval"
    )


def fit(features: np.ndarray, labels: np.ndarray, strength: float) -> "LogisticRegression":
    """Fit a logistic regression with C = `strength`. L-BFGS runs for at most 1,000 iterations."""
    from sklearn.linear_model import LogisticRegression  # imported only here, because the import takes seconds

    return LogisticRegression(C=strength, solver="lbfgs", max_iter=1000).fit(features, labels)


def search(train: Arrays, val: Arrays, steps: int = 8) -> float:
    """Search for the value of C whose classifier has the highest accuracy on `val`, and return this C.

    First try all values in COARSE. Then take the interval [C / 10, 10 C] around the best C, and halve the interval
    `steps` times on a log scale.
    """

    def score(exponent: float) -> float:
        return fit(*train, 10**exponent).score(*val)

    best = max(map(np.log10, COARSE), key=score)
    low, high = best - 1, best + 1
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if score(low) < score(high) else (low, middle)
    return 10 ** (high if score(low) < score(high) else low)


class ProbedCLIP(Method):
    """CLIP's image tower with a linear classifier on its features. Only the training classes can be classified."""

    image_tower_is_frozen = True
    text_is_learned = False
    has_loop = False
    only_trained_classes = True

    def __init__(self, options: LinearProbeOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.n_halvings = options.NUM_STEP
        self.classifier = nn.Linear(clip.sizes.embed_dim, len(classnames))
        #: Checksum of the class names. `load_model` compares this checksum with the checksum in the checkpoint.
        self.register_buffer("classes", torch.tensor(zlib.crc32("\n".join(classnames).encode())))

    def classify(self, image_features: torch.Tensor) -> Output:
        return Output(self.classifier(image_features.float()), normalized(image_features))

    def fit(self, data: TrainingFeatures) -> None:
        """Choose the penalty, then fit the classifier.

        The penalty is chosen on the validation images, or on the training images if there are no validation images.
        """
        train, validation = _arrays(data.train()), data.val()
        val = train if validation is None else _arrays(validation)
        strength = search(train, val, self.n_halvings)
        source = "training" if validation is None else "validation"
        print(f"Logistic regression: C = {strength:.4g}, chosen on {len(val[1])} {source} images")
        regression = fit(*train, strength)
        weight, bias = regression.coef_, regression.intercept_  # (n_classes, embed_dim), (n_classes,)
        if len(weight) == 1:  # for two classes, scikit-learn only returns the weights of the second class
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            self.classifier.weight.copy_(torch.as_tensor(weight))
            self.classifier.bias.copy_(torch.as_tensor(bias))


def _arrays(data: LabelledFeatures) -> Arrays:
    return data.features.numpy(), data.labels.numpy()


@TRAINER_REGISTRY.register()
class LinearProbe(PromptTrainer):
    """Trains a linear probe. The image features are computed once, and there are no epochs."""

    method = ProbedCLIP
    options = LinearProbeOptions
    checkpoints = {"linear_probe": ""}
    default_config = "rn50"

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        before = self.model.get_buffer("classes").clone()
        super().load_model(directory, epoch)
        if not torch.equal(self.model.get_buffer("classes"), before):
            raise InputError(
                f"{directory} was trained on other classes, but a linear probe can only classify its training classes"
            )
