"""Hard sharing, SoftCPT's baseline (arXiv 2208.13474): CoOp's context learned on several tasks together.

One context serves all tasks and classes, or each task (TSC), or each class (CSC).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import ClassPrompts, Options, PromptLearner, Task, start_coop_context
from trainers.common.multitask import MultiTaskMethod, MultiTaskTrainer


@dataclass(frozen=True)
class MTCoOpHardOptions(Options):
    """Config node TRAINER.MTCOOPH."""

    N_CTX: int = 16  # number of context tokens
    CSC: bool = False  # one context for each class
    TSC: bool = False  # one context for each task; ignored with CSC
    CTX_INIT: str = ""  # words that the context starts from; their number overrides N_CTX
    TOKEN_POSITION: str = "end"  # the class name stands at the end, in the middle or in front


class SharedContextCLIP(MultiTaskMethod):
    """CLIP with contexts that tasks share."""

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
    """Learns like CoOp, on several tasks."""

    method = SharedContextCLIP
    options = MTCoOpHardOptions
    node = "MTCOOPH"
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "rn50"
