"""Our answers to a golden case, for test_golden.py. The READMEs of the golden values say what each array means."""

import itertools
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import formula
import numpy as np
import small_clip
import torch
from conftest import node_of

from clip.model import from_state_dict
from dassl.config import keys, merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from experiments.official_keys import translate_words
from trainers.base import Batch, Losses, Method, Task, total
from trainers.common.options import default_config

load_plugins("trainers")
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


def assert_close(name: str, ours, golden, tolerance: float = 1e-4, floor: float = 1e-6) -> None:
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, dtype=np.float32)
    assert ours.shape == golden.shape, f"{name}: the shape is {ours.shape}, but the golden shape is {golden.shape}"
    error, limit = np.abs(ours - golden).max(), tolerance * np.abs(golden).max() + floor
    assert error <= limit, f"{name}: differs by {error:.3g}, allowed {limit:.3g}"


def sample(name: str, tensor: torch.Tensor) -> np.ndarray:
    return formula.sample(name, tensor.detach().numpy())


class Answers:
    """Computes our answers to a case when they are first needed. `model` keeps its starting values."""

    def __init__(self, case: dict, folder: Path):
        self.case, self.folder = case, folder
        self.model = self.build(case["classnames"])
        resolution = case.get("clip", {}).get("image_resolution", 64)
        images = torch.as_tensor(formula.images(case["batch"], resolution))
        second_name = f"images2.{case['batch']}.{resolution}"  # the second view of the images
        second = torch.as_tensor(formula.normal(second_name, tuple(images.shape)))
        self.batch = Batch(images, labels_of(case), (images, second))

    def answer(self, kind: str, rest: str) -> torch.Tensor | np.ndarray:
        """Return the array `kind`, or `kind/rest`, of the case's file."""
        return (OF_METHOD.get(self.case["trainer"], {}) | OF_ALL)[kind](self, rest)

    def start(self, name: str) -> np.ndarray:
        """Return the sample of a parameter's starting value."""
        return sample(name, self.model.get_parameter(name))

    def step(self, name: str) -> np.ndarray:
        """Return the sample of a parameter after a step of SGD."""
        return sample(name, self.stepped.get_parameter(name))

    def weights(self) -> dict[str, float]:
        """Return the weights of the loss terms."""
        return {name: weight for name, (weight, _) in self.start_losses.items()}

    def losses(self, model: Method) -> Losses:
        return model.train().losses(model.outputs(self.batch), self.batch)

    def logits(self, model: Method) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(self.batch.images)

    @cached_property
    def start_losses(self) -> Losses:
        """The loss terms at the start. `model.backward` has computed their gradients."""
        losses = self.losses(self.model)
        self.model.backward(losses, NO_SCALER)
        return losses

    @property
    def gradients(self) -> dict[str, torch.Tensor]:
        """The gradients that the optimiser gets at the start."""
        assert self.start_losses
        found = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        assert len(found) == len(self.case["parameters"])
        return found

    @cached_property
    def stepped(self) -> Method:
        """The method after a step of SGD."""
        model = self.build(self.case["classnames"])
        lr = 0.002 if "tasknames" in self.case else 0.0035
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        model.backward(self.losses(model), NO_SCALER)
        optimizer.step()
        return model

    # ---- building ----

    def build(self, classnames: Sequence) -> Method:
        """Build the case's method for these classes, with the learnable parameters at their starting values."""
        case, cfg = self.case, default_config()
        trainer = TRAINER_REGISTRY.get(case["trainer"])
        node = f"TRAINER.{node_of(case['trainer'])}"
        known = dict(keys(cfg))
        words = [word for key, value in case["options"].items() for word in (f"{node}.{key}", value)]
        # The texts and files that a method takes as options.
        given = {"PROMPT_TEMPLATE": case.get("prompt_template"), "SENTENCES": self.sentences_file}
        words += [word for key, value in given.items() if f"{node}.{key}" in known for word in (f"{node}.{key}", value)]
        merge_words(cfg, [*translate_words(trainer, words, known), "DATASET.NAME", case.get("dataset", "")])
        if "tasknames" in case:
            classnames = [Task(*task) for task in zip(case["tasknames"], classnames, strict=True)]
        clip = from_state_dict(small_clip.state_dict(**case.get("clip", {})))
        model = trainer.build_method(cfg, clip, classnames, self.template)
        assert {name: list(p.shape) for name, p in model.named_parameters()} == case["parameters"]
        with torch.no_grad():
            for name, p in model.named_parameters():
                if not starts_from_words(case, name):
                    p.copy_(torch.as_tensor(formula.parameter(name, tuple(p.shape))))
        return model

    @property
    def template(self) -> str:
        """The data set's template, in the teacher's form if the method has a teacher with one template."""
        teacher = self.case.get("teacher_templates", [])
        return teacher[0] if len(teacher) == 1 else self.case.get("template", "a photo of a {}.")

    @property
    def sentences_file(self) -> str:
        """The path of a file with the case's sentences about each class."""
        file = self.folder / "sentences.json"
        file.write_text(json.dumps(self.case.get("sentences", {})))
        return str(file)


def starts_from_words(case: dict, name: str) -> bool:
    """Whether a parameter starts from the words of CTX_INIT."""
    if "from_words" in case:
        return name in case["from_words"]
    options = case["options"]
    is_short = options.get("N_CTX", options.get("N_CTX_TEXT", 0)) <= 4
    has_words = bool(options.get("CTX_INIT")) and (is_short or case["trainer"] in ("CoOp", "CoCoOp"))
    return has_words and name == "prompt_learner.ctx"


def labels_of(case: dict) -> torch.Tensor:
    """The labels of a case's images: classes by number, or rows over all tasks' classes (see MultiTaskDatum)."""
    if "task_of_image" not in case:
        return torch.arange(case["batch"]) % len(case["classnames"])
    labels = torch.full((case["batch"], sum(map(len, case["classnames"]))), -1)
    starts = [0, *itertools.accumulate(len(names) for names in case["classnames"])]
    for row, task, label in zip(labels, case["task_of_image"], case["label_of_image"], strict=True):
        row[starts[task] : starts[task + 1]] = 0
        row[starts[task] + label] = 1
    return labels


# ---- the arrays: kind -> function of the answers and of what follows the kind and a slash ----

Answer = Callable[[Answers, str], torch.Tensor | np.ndarray]
#: The arrays that mean the same for all methods.
OF_ALL: dict[str, Answer] = {
    "logits": lambda ours, _: ours.logits(ours.model),
    "loss": lambda ours, _: total(ours.start_losses),
    "term": lambda ours, name: ours.start_losses[name][1],
    "grad": lambda ours, name: sample(name, ours.gradients[name]),
    "grad_norm": lambda ours, name: ours.gradients[name].norm(),
    "loss_after_step": lambda ours, _: total(ours.losses(ours.stepped)),
    "start": lambda ours, name: ours.start(name),
    "start_norm": lambda ours, name: ours.model.get_parameter(name).norm(dim=-1),
}
#: The arrays of single methods: {trainer: {kind: function}}.
OF_METHOD: dict[str, dict[str, Answer]] = {}
