"""SoftCPT: Prompt Tuning with Soft Context Sharing (Ding et al., arXiv 2208.13474, Neurocomputing 603:128290).

Several tasks are trained at once; a linear map shared by all makes each task's context from the task's name, and in
the C variants each class's from the class's name too. Beside it its baselines: one context for all, a task, or a class.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from clip.model import CLIP
from clip.text import Layout
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, unknown
from datasets.multitask import task_name
from trainers.base import Method, PromptTrainer, normalized
from trainers.common.prompts import ClassPrompts, PlacedContext, PromptLearner, coop_context


class Prompts:
    """Prompts of names in groups, the context of each given at every call, wherever it stands.

    Args:
        group: which context each name stands behind, (N,).
    """

    def __init__(
        self, model: CLIP, template: str, names: Sequence[str], n_ctx: int, position: str, group: torch.Tensor
    ):
        self.model, self.group = model, group.to(model.logit_scale.device)
        self.used: torch.Tensor | None = None  # which contexts stand before these names, where that isn't all
        self.placed: PlacedContext | None = None
        if position == "end":
            self.classes = ClassPrompts.of(model, template, names)
            self.layout = Layout(self.classes.layout.lengths, self.group)
        else:
            self.placed = PlacedContext(model, template, names, n_ctx, position, per_class=True)

    def encode(self, context: torch.Tensor) -> torch.Tensor:
        """Contexts (G, n, width) -> features of all names (N, embed_dim), not normalised."""
        if self.placed is not None:
            own = self.placed.class_tokens(context[self.group])
            return self.model.encode_prompts(self.placed.prefix, own, self.placed.layout)
        prefix = self.classes.with_context(context if self.used is None else context[self.used])
        return self.model.encode_prompts(prefix, self.classes.class_tokens, self.layout)

    def subset(self, chosen: torch.Tensor) -> "Prompts":
        """The prompts of some names only, by number (k,); `encode` still takes all contexts, and uses theirs."""
        other = copy.copy(self)
        if self.placed is not None:
            other.placed = self.placed.subset(chosen)
        else:
            other.classes = self.classes.subset(chosen)
            other.used, group = self.group[chosen].unique(return_inverse=True)
            other.layout = Layout(other.classes.layout.lengths, group)
        return other


class FixedOrLearned(nn.Module):
    """Features of names behind a learned context, one for all or one for each; of the bare names where n_ctx is 0."""

    def __init__(self, model: CLIP, names: Sequence[str], n_ctx: int, words: str, own: bool, position: str):
        super().__init__()
        copies = len(names) if own else 0
        if n_ctx or words:
            context, template = coop_context(model, n_ctx, words, copies)
            self.ctx = nn.Parameter(context)
            group = torch.arange(len(names)) if context.ndim == 3 else torch.zeros(len(names), dtype=torch.long)
            self.prompts = Prompts(model, template, names, context.shape[-2], position, group)
        else:
            bare = ClassPrompts.of(model, "{}.", names)
            with torch.no_grad():
                self.features = model.encode_prompts(bare.prefix[None], bare.class_tokens, bare.layout)

    def forward(self, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """(names, embed_dim), not normalised; of the `chosen` ones only (k, embed_dim)"""
        if not hasattr(self, "ctx"):
            return self.features if chosen is None else self.features[chosen]
        prompts = self.prompts if chosen is None else self.prompts.subset(chosen)
        return prompts.encode(self.ctx.reshape(-1, *self.ctx.shape[-2:]))


class PromptGenerator(nn.Module):
    """The meta network: one matrix (d_in, n_ctx * width) from features to contexts."""

    def __init__(self, d_in: int, n_ctx: int, width: int, kind: str):
        super().__init__()
        self.proj = nn.Parameter(nn.init.normal_(torch.empty(d_in, n_ctx * width), std=0.02))
        self.n_ctx, self.kind = n_ctx, kind

    def forward(self, task: torch.Tensor, of_class: torch.Tensor | None = None) -> torch.Tensor:
        """Task features (G, embed_dim), and in the C variants class features too -> contexts (G, n_ctx, width)."""
        features = task
        if of_class is not None:
            pairs = {"lin": lambda: torch.cat([of_class, task], -1), "linmean": lambda: (of_class + task) / 2}
            features = pairs.get(self.kind, lambda: of_class)()
        return (features.float() @ self.proj).unflatten(-1, (self.n_ctx, -1))


class SoftCPTCLIP(Method):
    """CLIP with generated contexts; logits are over all tasks' classes, in order."""

    def __init__(self, model: CLIP, tasknames: Sequence[str], classnames: Sequence[Sequence[str]], opts: Any):
        super().__init__(model)
        names = [name for task in classnames for name in task]
        device = model.logit_scale.device
        tasks = [task for task, group in enumerate(classnames) for _ in group]
        self.task_of_class = torch.tensor(tasks, device=device)
        self.prompt_learner = nn.Module()  # empty: official loaders ask for its folder
        self.task_prompt_learner = FixedOrLearned(
            model, tasknames, opts.TASK_N_CTX, opts.TASK_CTX_INIT, opts.TASK_CSC, opts.TASK_TOKEN_POSITION
        )
        if opts.CSC:
            self.class_prompt_learner = FixedOrLearned(
                model, names, opts.CLASS_N_CTX, opts.CLASS_CTX_INIT, opts.CLASS_CSC, opts.CLASS_TOKEN_POSITION
            )
            self.class_prompt_learner.requires_grad_(not opts.FREEZE_CLS_PROMPT)
        context, template = coop_context(model, opts.N_CTX, opts.CTX_INIT)
        n_ctx, width = context.shape
        d_in = model.text_projection.shape[1] * (2 if opts.CSC and opts.PG_TYPE == "lin" else 1)
        self.prompt_gen = PromptGenerator(d_in, n_ctx, width, opts.PG_TYPE)
        group = torch.arange(len(names)) if opts.CSC else self.task_of_class
        self.prompts = Prompts(model, template, names, n_ctx, opts.TOKEN_POSITION, group)
        self.rate, self.by_class = opts.CLS_SAMPLE_RATE, opts.CSC

    def contexts(self, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """One for each task, or in the C variants for each class: (G, n_ctx, width); zeros for classes not chosen."""
        task = self.task_prompt_learner()
        if not self.by_class:
            return self.prompt_gen(task)
        if chosen is None:
            return self.prompt_gen(task[self.task_of_class], self.class_prompt_learner())
        contexts = self.prompt_gen(task[self.task_of_class[chosen]], self.class_prompt_learner(chosen))
        everywhere = contexts.new_zeros(len(self.task_of_class), *contexts.shape[1:])
        return everywhere.index_copy(0, chosen, contexts)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.contexts())

    def sampled_logits(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Logits in training: of the batch's own classes and a share CLS_SAMPLE_RATE of the others; -inf elsewhere."""
        if not (self.rate and self.by_class):
            return self(image)
        everywhere = image.new_full((len(image), len(self.task_of_class)), -torch.inf, dtype=torch.float32)
        positive = torch.zeros(everywhere.shape[1], dtype=torch.bool, device=image.device)
        positive[label.argmax(1) if label.ndim == 2 else label] = True
        others = (~positive).nonzero()[:, 0]
        drawn = others[torch.randperm(len(others), device=others.device)[: round(self.rate * len(others))]]
        chosen = torch.cat([positive.nonzero()[:, 0], drawn]).sort().values
        text = normalized(self.prompts.subset(chosen).encode(self.contexts(chosen)))
        return everywhere.index_copy(1, chosen, self.similarity(normalized(self.encode_image(image)), text))


def tasks_of(dataset: Any) -> tuple[list[str], list[list[str]]]:
    """Names of the tasks and of their classes; a data set that knows no tasks is one."""
    if getattr(dataset, "tasknames", None):
        return dataset.tasknames, dataset.classnames
    return [task_name(dataset) if hasattr(dataset, "dataset_dir") else "image recognition"], [list(dataset.classnames)]


def own_task(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (batch, all classes), -inf outside each sample's own task, and its class's column (batch,).

    Labels are rows as `MultiTaskDatum` has them, or columns already where there is one task.
    """
    if label.ndim == 1:
        return logits, label
    return logits.masked_fill(label < 0, -torch.inf), label.argmax(1)


class MultiTaskTrainer(PromptTrainer):
    """Labels are rows over all tasks' classes; a sample's loss is over the columns of its own task."""

    @staticmethod
    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(*own_task(logits, label))

    def accuracy(self, logits: torch.Tensor, label: torch.Tensor) -> float:
        return super().accuracy(*own_task(logits, label))


@TRAINER_REGISTRY.register()
class SoftCPT(MultiTaskTrainer):
    """Config node TRAINER.SOFTCPT. TRAINER.SOFTCPT.LEGACY_STEPS steps as often as the published code did."""

    model: SoftCPTCLIP
    checkpoints = {
        name: name for name in ("prompt_learner", "task_prompt_learner", "class_prompt_learner", "prompt_gen")
    }
    default_config = "rn50"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> SoftCPTCLIP:
        opts = cls.options(cfg)
        if opts.PG_TYPE not in ("lin", "linmean", "lincls"):
            raise unknown("meta network (PG_TYPE)", opts.PG_TYPE, ("lin", "linmean", "lincls"))
        if not 0 <= opts.CLS_SAMPLE_RATE <= 1:
            raise InputError(f"CLS_SAMPLE_RATE is a share from 0 to 1, not {opts.CLS_SAMPLE_RATE}")
        return SoftCPTCLIP(model, *tasks_of(dataset), opts)

    def training_logits(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.model.sampled_logits(image, label)

    @property
    def extra_steps(self) -> int:
        """The published code registered each module with the same optimiser, which then stepped once for each."""
        return len(self.get_model_names()) - 1 if self.options(self.cfg).LEGACY_STEPS else 0

    def step(self) -> None:
        super().step()
        for _ in range(self.extra_steps):
            self.optim.step()

    def update_lr(self, names: Any = None) -> None:
        super().update_lr(names)
        for _ in range(self.extra_steps):
            self.sched.step()


@TRAINER_REGISTRY.register()
class MTCoOp(SoftCPT):
    """SoftCPT under the name that its published code has. Config node TRAINER.MTCOOP."""


class SharedContextCLIP(Method):
    """CLIP with learned contexts: one for all tasks and classes, one a task, or one a class."""

    def __init__(self, model: CLIP, classnames: Sequence[Sequence[str]], opts: Any):
        super().__init__(model)
        names = [name for task in classnames for name in task]
        copies = len(names) if opts.CSC else len(classnames) if opts.TSC else 0
        context, template = coop_context(model, opts.N_CTX, opts.CTX_INIT, copies)
        task_of_class = torch.tensor([task for task, group in enumerate(classnames) for _ in group])
        group = torch.arange(len(names)) if opts.CSC else task_of_class
        group = group if context.ndim == 3 else torch.zeros_like(task_of_class)
        self.prompt_learner = PromptLearner(context)
        self.prompts = Prompts(model, template, names, context.shape[-2], opts.TOKEN_POSITION, group)

    def encode_text(self) -> torch.Tensor:
        context = self.prompt_learner.ctx
        return self.prompts.encode(context.reshape(-1, *context.shape[-2:]))


@TRAINER_REGISTRY.register()
class MTCoOpHard(MultiTaskTrainer):
    """Hard sharing: one context for all; or one a task (TSC), or one a class (CSC). Config node TRAINER.MTCOOPH."""

    node = "MTCOOPH"
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "rn50"

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> SharedContextCLIP:
        return SharedContextCLIP(model, tasks_of(dataset)[1], cls.options(cfg))
