"""SoftCPT: Prompt Tuning with Soft Context Sharing (Ding et al., arXiv 2208.13474, Neurocomputing 603:128290).

Several tasks are trained together. All tasks share one linear map, the meta network. The meta network generates each
task's context from the text feature of the task's name. In the methods that the paper calls C variants (option CSC),
the meta network generates a context for each class. Then it also gets the text feature of the class's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import nn

from clip.model import CLIP
from dassl.config import Int64
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    Batch,
    ClassPrompts,
    ContextTokens,
    Options,
    Output,
    Position,
    Share,
    Task,
    described,
    normalized,
    start_coop_context,
)
from trainers.common.multitask import MultiTaskMethod, MultiTaskTrainer

_NameTokens = Annotated[int, Meta(ge=0, le=77)]  # number of learned tokens that are added to a name


@dataclass(frozen=True)
class SoftCPTOptions(Options):
    """The options of SoftCPT, in the config nodes TRAINER.SOFTCPT and TRAINER.MTCOOP."""

    N_CTX: ContextTokens = described(16, "number of generated context tokens")
    CTX_INIT: str = described(
        "", 'if not "", the number of words overrides N_CTX; the context doesn\'t start from the words'
    )
    TOKEN_POSITION: Position = described("end", "position of the class name in the prompt")
    CSC: bool = described(False, "True: generate one context for each class (C variants); False: one for each task")
    CLASS_N_CTX: _NameTokens = described(
        4, "C variants: number of learned tokens added to a class name before encoding; 0: none"
    )
    CLASS_CTX_INIT: str = described("", "initial words of the added tokens; the number of words overrides CLASS_N_CTX")
    CLASS_CSC: bool = described(
        False, "True: learn separate added tokens for each class name (CS variants); False: shared"
    )
    CLASS_TOKEN_POSITION: Position = described("end", "position of the class name among the added tokens")
    TASK_N_CTX: _NameTokens = described(4, "number of learned tokens added to a task name before encoding; 0: none")
    TASK_CTX_INIT: str = described("", "initial words of the added tokens; the number of words overrides TASK_N_CTX")
    TASK_CSC: bool = described(
        False, "True: learn separate added tokens for each task name (TS variants); False: shared"
    )
    TASK_TOKEN_POSITION: Position = described("end", "position of the task name among the added tokens")
    PG_TYPE: Literal["lin", "linmean", "lincls"] = described(
        "lin", "C variants: input of the meta network; see `PromptGenerator`"
    )
    PG_RATIO: Int64 = described(1, "not used; it exists because the published configs set it")
    CLS_SAMPLE_RATE: Share = described(
        0.0, "C variants: a step uses this share of the classes that the batch lacks; 0: all"
    )
    FREEZE_CLS_PROMPT: bool = described(False, "True: don't learn the tokens added to the class names")
    LEGACY_STEPS: bool = described(
        False, "True: one optimiser step per module for each batch, as in the published code"
    )


class NameEncoder(nn.Module):
    """Computes the text features of task names or class names.

    A learned context is placed around each name, unless `n_ctx` is 0 and `words` is "". Without a context, the features
    are constant.

    Args:
        by_name: True: each name has a separate context; False: all names share one context.
    """

    def __init__(self, clip: CLIP, names: Sequence[str], n_ctx: int, words: str, by_name: bool, position: str):
        super().__init__()
        self.ctx: nn.Parameter | None = None
        if n_ctx or words:
            context, template = start_coop_context(clip, n_ctx, words, len(names) if by_name else 0)
            self.ctx = nn.Parameter(context)
            group = torch.arange(len(names)) if context.ndim == 3 else torch.zeros(len(names), dtype=torch.long)
            self.prompts = ClassPrompts(clip, template, names, context.shape[-2], position, group)
        else:
            plain = ClassPrompts(clip, "{}.", names, 0)
            with torch.no_grad():
                self.features = clip.encode_prompts(plain.prefix[None], plain.class_tokens, plain.layout)

    def forward(self, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Return the features (n_names, embed_dim), not normalised.

        Args:
            chosen: (k,) indices of names. If given, only the features (k, embed_dim) of these names are returned.
        """
        if self.ctx is None:
            return self.features if chosen is None else self.features[chosen]
        prompts = self.prompts if chosen is None else self.prompts.subset(chosen)
        return prompts.encode(self.ctx)


class PromptGenerator(nn.Module):
    """The meta network: one learned matrix (d_in, n_ctx * width), which maps features to contexts.

    If the option CSC is False, the input is a task feature. If CSC is True, `variant` selects the input: "lin" is the
    concatenation of the class feature and the task feature, "linmean" is the mean of these two features, and "lincls"
    is the class feature.
    """

    def __init__(self, d_in: int, n_ctx: int, width: int, variant: str):
        super().__init__()
        self.proj = nn.Parameter(nn.init.normal_(torch.empty(d_in, n_ctx * width), std=0.02))
        self.n_ctx, self.variant = n_ctx, variant

    def forward(self, tasks: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Return the contexts (n, n_ctx, width).

        Args:
            tasks: task features (n, embed_dim).
            classes: class features (n, embed_dim). None if the option CSC is False.
        """
        features = tasks
        if classes is not None:
            if self.variant == "lin":
                features = torch.cat([classes, tasks], -1)  # (n, 2 * embed_dim)
            else:
                features = (classes + tasks) / 2 if self.variant == "linmean" else classes
        return (features.float() @ self.proj).unflatten(-1, (self.n_ctx, -1))  # from (n, n_ctx * width)


class SoftCPTCLIP(MultiTaskMethod):
    """CLIP with contexts that the meta network generates."""

    image_tower_is_frozen = True

    def __init__(self, options: SoftCPTOptions, clip: CLIP, tasks: Sequence[Task], template: str):
        super().__init__(options, clip, tasks, template)
        self.prompt_learner = nn.Module()  # empty; official code expects a checkpoint folder for it
        self.task_prompt_learner = NameEncoder(
            clip,
            [task.name for task in tasks],
            options.TASK_N_CTX,
            options.TASK_CTX_INIT,
            options.TASK_CSC,
            options.TASK_TOKEN_POSITION,
        )
        if options.CSC:
            self.class_prompt_learner = NameEncoder(
                clip,
                self.names,
                options.CLASS_N_CTX,
                options.CLASS_CTX_INIT,
                options.CLASS_CSC,
                options.CLASS_TOKEN_POSITION,
            )
            self.class_prompt_learner.requires_grad_(not options.FREEZE_CLS_PROMPT)
        context, prompt_template = start_coop_context(clip, options.N_CTX, options.CTX_INIT)
        n_ctx, width = context.shape
        d_in = clip.sizes.embed_dim * (2 if options.CSC and options.PG_TYPE == "lin" else 1)
        self.prompt_gen = PromptGenerator(d_in, n_ctx, width, options.PG_TYPE)
        group = torch.arange(len(self.names)) if options.CSC else self.task_of_class
        self.prompts = ClassPrompts(clip, prompt_template, self.names, n_ctx, options.TOKEN_POSITION, group)
        self.sample_rate, self.by_class = options.CLS_SAMPLE_RATE, options.CSC
        self.has_static_steps = not (self.sample_rate and self.by_class)  # the number of sampled classes varies

    def contexts(self, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Generate the contexts. They are (n_tasks, n_ctx, width), or (n_classes, n_ctx, width) if CSC is True.

        Args:
            chosen: (k,) indices of classes, only if CSC is True. If given, only the contexts of these classes are
                computed; the contexts of the other classes are zero.
        """
        tasks = self.task_prompt_learner()  # (n_tasks, embed_dim)
        if not self.by_class:
            return self.prompt_gen(tasks)
        if chosen is None:
            return self.prompt_gen(tasks[self.task_of_class], self.class_prompt_learner())
        contexts = self.prompt_gen(tasks[self.task_of_class[chosen]], self.class_prompt_learner(chosen))
        of_all = contexts.new_zeros(len(self.task_of_class), *contexts.shape[1:])  # (n_classes, n_ctx, width)
        return of_all.index_copy(0, chosen, contexts)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.contexts())

    def outputs(self, batch: Batch) -> Output:
        """Return the output for a training batch.

        If CSC is True and CLS_SAMPLE_RATE isn't 0, logits are computed only for the classes in the batch and for a
        random share of the other classes. The logits of the remaining classes are -inf.
        """
        if not (self.sample_rate and self.by_class):
            return super().outputs(batch)
        labels = batch.labels.argmax(1) if batch.labels.ndim == 2 else batch.labels  # (batch,)
        n_classes, device = len(self.task_of_class), labels.device
        in_batch = torch.zeros(n_classes, dtype=torch.bool, device=device)
        in_batch[labels] = True
        others = (~in_batch).nonzero()[:, 0]
        drawn = others[torch.randperm(len(others), device=device)[: round(self.sample_rate * len(others))]]
        chosen = torch.cat([in_batch.nonzero()[:, 0], drawn]).sort().values  # (k,)
        text = normalized(self.prompts.subset(chosen).encode(self.contexts(chosen)))  # (k, embed_dim)
        images = normalized(self.encode_image(batch.images))
        similarity = self.similarity(images, text)  # (batch, k)
        logits = similarity.new_full((len(labels), n_classes), -torch.inf)
        return Output(logits.index_copy(1, chosen, similarity), images, text)


@TRAINER_REGISTRY.register()
class SoftCPT(MultiTaskTrainer):
    """Trains SoftCPT. With LEGACY_STEPS, the optimiser steps several times for each batch, as in the published code."""

    method = SoftCPTCLIP
    options = SoftCPTOptions
    checkpoints = {
        "prompt_learner": "prompt_learner",
        "task_prompt_learner": "task_prompt_learner",
        "class_prompt_learner": "class_prompt_learner",
        "prompt_gen": "prompt_gen",
    }
    default_config = "rn50"

    @property
    def extra_steps(self) -> int:
        """Number of additional optimiser steps for each batch: 0 unless LEGACY_STEPS is set.

        The published code registers the same optimiser with each module. So for every batch, the optimiser steps once
        for each module.
        """
        options = self.model.options
        legacy = isinstance(options, SoftCPTOptions) and options.LEGACY_STEPS
        return len(self.get_model_names()) - 1 if legacy else 0

    def step(self) -> None:
        if not self.extra_steps:
            super().step()
            return
        scale = self.scaler.get_scale()
        super().step()
        if self.scaler.get_scale() >= scale:  # a lower scale means that the scaler skipped the step: infinite gradients
            for _ in range(self.extra_steps):
                self.optim.step()

    def update_lr(self, names: str | Sequence[str] | None = None) -> None:
        super().update_lr(names)
        for _ in range(self.extra_steps):
            self.sched.step()


@TRAINER_REGISTRY.register()
class MTCoOp(SoftCPT):
    """The same trainer as SoftCPT, under the name MTCoOp that the published code uses."""
