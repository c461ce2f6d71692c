"""Linear probe: logistic regression on frozen image features (Radford et al., 2021, section 3.2; CoOp's few-shot one).

The strength of the L2 penalty is searched on the validation images: seven powers of 100, then halving the interval
around the best on a logarithmic scale.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from clip.model import CLIP
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import Method, PromptTrainer
from trainers.common.features import image_features

#: Inverse strengths of the penalty (scikit-learn's C) that are tried first.
COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)


def fit(features: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    """Logistic regression with C = `strength`, by L-BFGS, at most 1,000 iterations."""
    return LogisticRegression(C=strength, solver="lbfgs", max_iter=1000).fit(features, labels)


def search(train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], steps: int = 8) -> float:
    """The C that classifies `val` best: of COARSE, then by `steps` halvings of [C / 10, 10 C] on a logarithmic scale.

    Both are (features (n, d), labels (n,)).
    """

    def score(exponent: float) -> float:
        return fit(*train, 10**exponent).score(*val)

    best = max(map(np.log10, COARSE), key=score)
    low, high = best - 1, best + 1
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if score(low) < score(high) else (low, middle)
    return 10 ** (high if score(low) < score(high) else low)


def labelled_features(
    model: CLIP, items: Sequence, cfg: Any, device: torch.device, precision: str = "fp32"
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, embed_dim) of images as tests see them, not normalised, and their labels (n,)."""
    transform = build_transform(cfg, is_train=False)
    size = cfg.DATALOADER.TEST.BATCH_SIZE
    loader = build_data_loader(cfg, data_source=list(items), batch_size=size, tfm=transform, is_train=False)
    found = image_features(model, loader, device, precision, keep=cfg.TEST.CACHE_FEATURES)
    return found.numpy(), np.array([item.label for item in items])


class ProbedCLIP(Method):
    """CLIP's image tower and a linear classifier of its features."""

    classes: torch.Tensor

    def __init__(self, model: CLIP, classnames: Sequence[str]):
        super().__init__(model)
        self.classifier = nn.Linear(model.text_projection.shape[1], len(classnames))
        #: a fingerprint of the class names: a classifier knows no others
        self.register_buffer("classes", torch.tensor(zlib.crc32("\n".join(classnames).encode())))

    def logits(self, image_features: torch.Tensor) -> torch.Tensor:
        return self.classifier(image_features.float())


@TRAINER_REGISTRY.register()
class LinearProbe(PromptTrainer):
    """Config node TRAINER.LINEARPROBE. Features are made once; there are no epochs. It can't test other classes."""

    model: ProbedCLIP
    checkpoints = {"linear_probe": ""}
    default_config = "rn50"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> ProbedCLIP:
        return ProbedCLIP(model, dataset.classnames)

    def train(self) -> None:  # type: ignore[override]
        self.max_epoch = 1
        self.before_train()
        if self.start_epoch == 0:
            self.fit()
            self.save_model(0, self.output_dir)
        self.after_train()

    def fit(self) -> None:
        """Search the penalty on the validation images (on the training images where there are none), then fit."""
        data, model = self.dm.dataset, self.model.clip
        train = labelled_features(model, data.train_x or [], self.cfg, self.device, self.precision)
        val = labelled_features(model, data.val, self.cfg, self.device, self.precision) if data.val else train
        strength = search(train, val, self.options(self.cfg).NUM_STEP)
        print(f"C = {strength:.4g}, found on {len(val[1])} {'validation' if data.val else 'training'} images")
        regression = fit(*train, strength)
        weight, bias = regression.coef_, regression.intercept_
        if len(weight) == 1:  # two classes: scikit-learn keeps the second's only
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            self.model.classifier.weight.copy_(torch.as_tensor(weight))
            self.model.classifier.bias.copy_(torch.as_tensor(bias))

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        here = self.model.classes.clone()
        super().load_model(directory, epoch)
        if not torch.equal(self.model.classes, here):
            raise InputError(f"{directory} was trained on other classes: a linear probe knows no others")
