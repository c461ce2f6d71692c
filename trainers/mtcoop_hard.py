"""Hard context sharing, a baseline in SoftCPT's paper (arXiv 2208.13474). CoOp is trained on several tasks together.

By default all tasks share one context. With the option TSC, each task has a separate context. With the option CSC, each
class has a separate context.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    ClassPrompts,
    ContextTokens,
    Options,
    Position,
    PromptLearner,
    Task,
    described,
    start_coop_context,
)
from trainers.common.multitask import MultiTaskMethod, MultiTaskTrainer


@dataclass(frozen=True)
class MTCoOpHardOptions(Options):
    """The options of hard context sharing, in the config node TRAINER.MTCOOPH."""

    N_CTX: ContextTokens = described(16, "number of context tokens")
    CSC: bool = described(False, "True: one context for each class; ignored if CTX_INIT is given")
    TSC: bool = described(False, "True: one context for each task; ignored if CSC is True or CTX_INIT is given")
    CTX_INIT: str = described(
        "", 'initial words of the context; the number of words overrides N_CTX. "": random values'
    )
    TOKEN_POSITION: Position = described("end", "position of the class name in the prompt")


class SharedContextCLIP(MultiTaskMethod):
    """CLIP with learned contexts for the classes of several tasks."""

    image_tower_is_frozen = True

    def __init__(self, options: MTCoOpHardOptions, clip: CLIP, tasks: Sequence[Task], template: str):
        super().__init__(options, clip, tasks, template)
        n_classes = len(self.names)
        copies = n_classes if options.CSC else len(tasks) if options.TSC else 0
        context, prompt_template = start_coop_context(clip, options.N_CTX, options.CTX_INIT, copies)
        group = torch.arange(n_classes) if options.CSC else self.task_of_class
        if context.ndim == 2:
            group = torch.zeros_like(self.task_of_class)
        self.prompt_learner = PromptLearner(context)
        position = options.TOKEN_POSITION
        self.prompts = ClassPrompts(clip, prompt_template, self.names, context.shape[-2], position, group)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx)


@TRAINER_REGISTRY.register()
class MTCoOpHard(MultiTaskTrainer):
    """Trains CoOp's context on several tasks together."""

    method = SharedContextCLIP
    options = MTCoOpHardOptions
    node = "MTCOOPH"
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "rn50"
