"""Our answers to the golden arrays of adapters, caches, low rank and representations, for golden_answers.py."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import formula
import numpy as np
import torch

from clip.model import CLIP
from trainers.base import LabelledFeatures, Method, total

if TYPE_CHECKING:
    from golden_answers import Answers


class CaseFeatures:
    """The features of a Tip-Adapter case, in place of `TrainingFeatures`."""

    def __init__(self, case: dict, clip: CLIP):
        self.case, self.clip = case, clip
        self.count, self.shots = len(case["classnames"]), case["shots"]

    def image(self, label: int, shot: int, number: int = 0) -> np.ndarray:
        """A training image in an augmentation pass."""
        suffix = f".pass{number}" if number else ""
        return formula.normal(f"train_images.{label}.{shot}{suffix}", (3, 64, 64))

    def encode(self, images: list[np.ndarray]) -> torch.Tensor:
        with torch.no_grad():
            return self.clip.encode_image(torch.as_tensor(np.stack(images)))

    def train(self, passes: int) -> LabelledFeatures:
        pairs = [(label, shot) for label in range(self.count) for shot in range(self.shots)]
        each = [self.encode([self.image(*pair, number) for pair in pairs]) for number in range(passes)]
        return LabelledFeatures(torch.stack(each).mean(0), torch.tensor([label for label, _ in pairs]))

    def val(self) -> LabelledFeatures:
        return self.validation

    @cached_property
    def validation(self) -> LabelledFeatures:
        mix, labels = self.case["validation"]["mix"], self.case["validation"]["labels"]
        images = []
        for i in range(len(labels)):
            known = self.image(i % self.count, i // self.count % self.shots)
            noise = formula.normal(f"val_images.{i}", (3, 64, 64))
            images.append((mix * known + (1 - mix**2) ** 0.5 * noise).astype(np.float32))
        return LabelledFeatures(self.encode(images), torch.tensor(labels))


def sample(name: str, tensor: torch.Tensor) -> np.ndarray:
    return formula.sample(name, tensor.detach().numpy())


def searched(ours: "Answers", model: Method) -> Method:
    """Search alpha and beta of `model` on the case's validation images."""
    with torch.no_grad():
        model.search(ours.features)
    return model


def fresh(ours: "Answers") -> Method:
    """A second method of the case, at its start. Each call resets the same method, because building one is slow."""
    if ours.spare is None:
        model = ours.build(ours.case["classnames"])
        ours.spare = model, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model, start = ours.spare
    model.load_state_dict(start)
    model.zero_grad()
    return model


def search_answer(ours: "Answers", model: Method, rest: str) -> torch.Tensor | np.ndarray:
    """An array of the search. The certain points of `grid` and the golden `certain` are compared by the caller."""
    grid = model.accuracies(ours.features.val())
    if rest in ("alpha", "beta"):
        return searched(ours, model).get_buffer(rest)
    return {"grid": grid, "accuracy": grid.max(), "ties": (grid == grid.max()).sum()}[rest]


def validation_accuracy(ours: "Answers", alpha: float | None) -> float:
    """The accuracy on the validation images, in percent, with INIT_BETA. None: with INIT_ALPHA."""
    model = fresh(ours)
    if alpha is not None:
        model.get_buffer("alpha").fill_(alpha)
    features, labels = ours.features.val()
    with torch.no_grad():
        return 100 * (model.classify(features).logits.argmax(1) == labels).double().mean().item()


def stepped_copy(ours: "Answers") -> Method:
    """A method with the keys of `ours.stepped`, so that a search doesn't change `ours`."""
    model = fresh(ours)
    model.load_state_dict(ours.stepped.state_dict())
    return model


def zero_shot(ours: "Answers") -> torch.Tensor:
    model = fresh(ours)
    model.get_buffer("alpha").zero_()
    return ours.logits(model)


def adamw_stepped(ours: "Answers") -> Method:
    """The method after a step of Tip-Adapter-F's official optimiser."""
    model = fresh(ours)
    total(ours.losses(model)).backward()
    torch.optim.AdamW(model.parameters(), lr=0.001, eps=1e-4, weight_decay=0.01).step()
    return model


def representation_logits(ours: "Answers", name: str) -> torch.Tensor:
    """MMRL's logits: of the class token ("class"), of the inserted tokens ("rep"), or mixed ("fusion")."""
    model = ours.model
    if name == "rep":
        with torch.no_grad():
            return model.outputs(ours.batch).rep_logits
    model.has_new_classes = name == "class"
    try:
        return ours.logits(model)
    finally:
        model.has_new_classes = False


def training_logits(ours: "Answers") -> torch.Tensor:
    """The logits with adapters beside CLIP's own weights, as in training."""
    return ours.model.eval().outputs(ours.batch).logits


Answer = Callable[["Answers", str], torch.Tensor | np.ndarray | float]
_MMRL: dict[str, Answer] = {
    "logits": lambda ours, _: representation_logits(ours, "class"),
    "logits_rep": lambda ours, _: representation_logits(ours, "rep"),
    "logits_fusion": lambda ours, _: representation_logits(ours, "fusion"),
}
_TIP: dict[str, Answer] = {
    "text_weights": lambda ours, _: sample("text_weights", ours.model.text_features()),
    "keys": lambda ours, _: sample("keys", fresh(ours).adapter.weight),
    "keys_norm": lambda ours, _: fresh(ours).adapter.weight.norm(),
    "keys_raw_norm": lambda ours, _: ours.features.train(ours.case["options"]["AUGMENT_EPOCH"]).features.norm(dim=-1),
    "logits_zero_shot": lambda ours, _: zero_shot(ours),
    "search": lambda ours, rest: search_answer(ours, fresh(ours), rest),
    "logits_searched": lambda ours, _: ours.logits(searched(ours, fresh(ours))),
    "validation": lambda ours, rest: validation_accuracy(ours, 0.0 if rest == "zero_shot" else None),
    "logits_after_step": lambda ours, _: ours.logits(ours.stepped),
    "search_after_step": lambda ours, rest: search_answer(ours, stepped_copy(ours), rest),
    "logits_after_step_searched": lambda ours, _: ours.logits(searched(ours, stepped_copy(ours))),
    "adamw_logits_after_step": lambda ours, _: ours.logits(adamw_stepped(ours)),
    "adamw_loss_after_step": lambda ours, _: total(ours.losses(adamw_stepped(ours))),
}
#: {trainer: {kind: function}}
OF_ADAPTERS: dict[str, dict[str, Answer]] = {
    "MMRL": _MMRL,
    "MMRLpp": _MMRL,
    "CLIPLoRA": {
        "logits": lambda ours, _: training_logits(ours),
        "logits_merged": lambda ours, _: ours.logits(ours.model),
    },
    "TipAdapter": _TIP,
    "TipAdapterF": _TIP,
}
