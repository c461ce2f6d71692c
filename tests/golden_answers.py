"""Our answers to a golden case, for test_golden.py. The READMEs of the golden values say what each array means."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import formula
import numpy as np
import small_clip
import torch
from conftest import node_of
from golden_adapters import OF_ADAPTERS, CaseFeatures, adamw_stepped
from golden_case import labels_of, starts_from_words

import clip
from clip.model import from_state_dict
from dassl.config import keys, merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from experiments.official_keys import translate_words
from trainers.base import Batch, Losses, Method, Task, total
from trainers.common.options import default_config
from trainers.promptsrc import GaussianAverage

load_plugins("trainers")
#: Kinds of arrays that describe the method after a step of SGD.
AFTER_STEP = (
    "step",
    "loss_after_step",
    "logits_after_step",
    "search_after_step",
    "logits_after_step_searched",
)
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


def assert_close(name: str, ours, golden, tolerance: float = 1e-4, floor: float = 1e-6) -> None:
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, dtype=np.float32)
    assert ours.shape == golden.shape, f"{name}: the shape is {ours.shape}, but the golden shape is {golden.shape}"
    error, limit = np.abs(ours - golden).max(), tolerance * np.abs(golden).max() + floor
    assert error <= limit, f"{name}: differs by {error:.3g}, allowed {limit:.3g}"


def sample(name: str, tensor: torch.Tensor) -> np.ndarray:
    return formula.sample(name, tensor.detach().numpy())


class Answers:
    """Computes our answers to a case when they are first needed.

    The first answer of AFTER_STEP does a step of SGD with `model`, so ask for these kinds last.
    """

    def __init__(self, case: dict, folder: Path):
        self.case, self.folder = case, folder
        self.model = self.build(case["classnames"])
        self.starts = {name: sample(name, p) for name, p in self.model.named_parameters()}
        resolution = case.get("clip", {}).get("image_resolution", 64)
        images = torch.as_tensor(formula.images(case["batch"], resolution))
        second_name = f"images2.{case['batch']}.{resolution}"  # the second view of the images
        second = torch.as_tensor(formula.normal(second_name, tuple(images.shape)))
        self.batch = Batch(images, labels_of(case), (images, second))
        self.spare: tuple[Method, dict[str, torch.Tensor]] | None = None  # see golden_adapters.fresh
        self.averages: dict[str, Method] = {}  # PromptSRC's averaged methods

    def answer(self, kind: str, rest: str) -> torch.Tensor | np.ndarray:
        """Return the array `kind`, or `kind/rest`, of the case's file."""
        return (OF_ALL | OF_METHOD.get(self.case["trainer"], {}))[kind](self, rest)

    def step(self, name: str) -> np.ndarray:
        """Return the sample of the change of a parameter by a step of SGD."""
        return sample(name, self.stepped.get_parameter(name)) - self.starts[name]

    def adamw_step(self, name: str) -> np.ndarray:
        """Return the sample of the change of a parameter by a step of Tip-Adapter-F's optimiser."""
        return sample(name, adamw_stepped(self).get_parameter(name)) - self.starts[name]

    def weights(self) -> dict[str, float]:
        """Return the weights of the loss terms."""
        if not self.case["parameters"]:
            return {}
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
    def model_of_new_classes(self) -> Method:
        """The method for classes that it wasn't trained on, with its starting values."""
        return self.build(self.case["new_classnames"])

    @cached_property
    def stepped(self) -> Method:
        """The method after a step of SGD."""
        assert self.start_losses  # the gradients are computed
        lr = 0.002 if "tasknames" in self.case else 0.0035
        optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        optimizer.step()
        return self.model

    # ---- building ----

    def build(self, classnames: Sequence) -> Method:
        """Build the case's method for these classes, with the learnable parameters at their starting values."""
        case, cfg = self.case, default_config()
        trainer = TRAINER_REGISTRY.get(case["trainer"])
        node = f"TRAINER.{node_of(case['trainer'])}"
        known = dict(keys(cfg))
        original = next((key for key, ours in trainer.official_keys.items() if ours == node), node)
        words = [word for key, value in case["options"].items() for word in (f"{original}.{key}", value)]
        if "sentences" in case:
            words += [f"{node}.SENTENCES", self.sentences_file]
        for key, value in trainer.values(case.get("dataset", ""), "", 16).items():
            merge_words(cfg, [key, value])
        merge_words(cfg, [*translate_words(trainer, words, known), "DATASET.NAME", case.get("dataset", "")])
        if "tasknames" in case:
            classnames = [Task(*task) for task in zip(case["tasknames"], classnames, strict=True)]
        backbone = from_state_dict(small_clip.state_dict(**case.get("clip", {})))
        model = trainer.build_method(cfg, backbone, classnames, self.template)
        if "shots" in case:
            self.features = CaseFeatures(case, backbone)
            model.fit(self.features)
        if "prompt_template" in case:
            self.check_prompts(model)
        if "sentence_index" in case:
            model.draw_sentence = lambda: torch.tensor([case["sentence_index"]])
        if len(case.get("teacher_templates", [])) == 1:
            ours = trainer.values(case.get("dataset", ""), "", 16).get("DATASET.TEMPLATE", case["template"])
            assert [ours] == case["teacher_templates"]
        assert {name: list(p.shape) for name, p in model.named_parameters()} == case["parameters"]
        with torch.no_grad():
            for name, p in model.named_parameters():
                if not starts_from_words(case, name):
                    p.copy_(torch.as_tensor(formula.parameter(name, tuple(p.shape))))
        return model

    def check_prompts(self, model: Method) -> None:
        """Check that the prompts are those of `prompt_template`, apart from the context."""
        template = self.case["prompt_template"]
        names = [name.replace("_", " ") for name in model.classnames]
        ids = clip.tokenize([template.replace("{}", name) for name in names])
        if "prompt_learner.ctx" in self.case["parameters"]:
            context = model.get_parameter("prompt_learner.ctx")
        else:
            context = torch.zeros(1, 0, model.prompts.prefix.shape[-1])
        prefix, class_tokens = model.prompts.with_context(context)
        for row, ours in zip(ids, class_tokens.split(model.prompts.layout.lengths.tolist()), strict=True):
            prompt = torch.cat([prefix[0], ours])  # (length up to EOT, width)
            expected = model.clip.token_embedding(row[: len(prompt)])
            assert row.argmax() == len(prompt) - 1
            assert torch.equal(prompt[1 + context.shape[-2] :], expected[1 + context.shape[-2] :])

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
    "start": lambda ours, name: ours.starts[name],
    "start_norm": lambda ours, name: ours.model.get_parameter(name).norm(dim=-1),
}


def gradient_of(ours: Answers, term: str, name: str) -> torch.Tensor:
    """The gradient of a single loss term, before a method changes it."""
    value = ours.losses(ours.model)[term][1]
    return torch.autograd.grad(value, ours.model.get_parameter(name))[0]


def raw_teacher_text(ours: Answers) -> torch.Tensor:
    """The mean of the teacher's text features, which aren't normalised."""
    names = [name.replace("_", " ") for name in ours.case["classnames"]]
    ids = [clip.tokenize([text.replace("{}", name) for name in names]) for text in ours.case["teacher_templates"]]
    return torch.stack([ours.model.clip.encode_text(each) for each in ids]).mean(0)


def class_prompts(model: Method) -> torch.Tensor:
    """TCP's prompts of the classes (n_classes, n_ctx, width)."""
    return next(iter(model.text_inputs().prompts.values()))


def teacher_images(ours: Answers) -> torch.Tensor:
    """PromptSRC's frozen image features."""
    return ours.model.teacher_images(ours.model.outputs(ours.batch), ours.batch)


def setting_of(setting: str) -> tuple[int, float, float]:
    """The number of epochs, the mean and the standard deviation in N_mean_std."""
    epochs, mean, std = setting.split("_")
    return int(epochs), float(mean), float(std)


def averaged(ours: Answers, setting: str) -> Method:
    """PromptSRC's method after the epochs of `setting` (N_mean_std), each of which ends with known parameters."""
    if setting in ours.averages:
        return ours.averages[setting]
    epochs, mean, std = setting_of(setting)
    model = ours.build(ours.case["classnames"])
    model.average = GaussianAverage(mean, std)
    for epoch in range(epochs):
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(torch.as_tensor(formula.parameter(f"{name}.epoch{epoch + 1}", tuple(p.shape))))
        model.end_epoch(epoch, epoch + 1 == epochs)
    return ours.averages.setdefault(setting, model)


def average_weights(setting: str) -> torch.Tensor:
    """PromptSRC's weights of the epochs: the average of unit vectors."""
    epochs, mean, std = setting_of(setting)
    average = GaussianAverage(mean, std)
    for epoch, unit in enumerate(torch.eye(epochs)):
        average.add(epoch, {"unit": unit})
    return average.tensors["unit"]


#: The arrays of teachers.
OF_TEACHER: dict[str, Answer] = {
    "teacher_text": lambda ours, _: sample("teacher_text", ours.model.teacher),
    "teacher_text_norm": lambda ours, _: raw_teacher_text(ours).norm(dim=-1),
}
#: The arrays of single methods: {trainer: {kind: function}}.
OF_METHOD: dict[str, dict[str, Answer]] = OF_ADAPTERS | {
    "KgCoOp": OF_TEACHER,
    "ProGrad": OF_TEACHER
    | {
        "teacher_logits": lambda ours, _: ours.model.teacher_logits(ours.model.outputs(ours.batch)),
        "grad_ce": lambda ours, name: sample(name, gradient_of(ours, "ce", name)),
        "grad_ce_norm": lambda ours, name: gradient_of(ours, "ce", name).norm(),
        "grad_kl": lambda ours, name: sample(name, gradient_of(ours, "kl", name)),
        "grad_kl_norm": lambda ours, name: gradient_of(ours, "kl", name).norm(),
        "cosine": lambda ours, name: torch.cosine_similarity(
            gradient_of(ours, "ce", name).flatten(), gradient_of(ours, "kl", name).flatten(), dim=0
        ),
    },
    "TCP": OF_TEACHER
    | {
        "class_prompts": lambda ours, _: sample("class_prompts", class_prompts(ours.model)),
        "class_prompts_norm": lambda ours, _: class_prompts(ours.model).norm(dim=-1),
        "new_logits": lambda ours, _: ours.logits(ours.model_of_new_classes),
        "new_teacher_text": lambda ours, _: sample("new_teacher_text", ours.model_of_new_classes.teacher),
        "new_class_prompts": lambda ours, _: sample("new_class_prompts", class_prompts(ours.model_of_new_classes)),
    },
    "PromptSRC": OF_TEACHER
    | {
        "teacher_image": lambda ours, _: sample("teacher_image", teacher_images(ours)),
        "teacher_image_norm": lambda ours, _: ours.model.clip.encode_image(ours.batch.images).norm(dim=-1),
        "teacher_logits": lambda ours, _: ours.model.similarity(teacher_images(ours), ours.model.teacher),
        "gpa_weights": lambda ours, setting: average_weights(setting),
        "gpa": lambda ours, rest: sample(
            rest.partition("/")[2], averaged(ours, rest.partition("/")[0]).get_parameter(rest.partition("/")[2])
        ),
        "gpa_logits": lambda ours, setting: ours.logits(averaged(ours, setting)),
    },
}
