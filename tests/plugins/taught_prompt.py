"""TaughtPrompt, a toy method. It has a frozen teacher, two losses and a context that is averaged over epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import (
    Batch,
    ClassPrompts,
    Losses,
    Method,
    Options,
    Output,
    PromptLearner,
    PromptTrainer,
    frozen_image_features,
    frozen_text_features,
    start_context,
)


@dataclass(frozen=True)
class TaughtPromptOptions(Options):
    """The options of TaughtPrompt, in the config node TRAINER.TAUGHTPROMPT."""

    W: float = 8.0  # weight of the loss "text", the distance to the teacher's text features


class TaughtPromptCLIP(Method):
    """CLIP with a learned context. A loss keeps the text features close to those of the frozen CLIP.

    After the last epoch the context is replaced by its mean over all epochs.
    """

    image_tower_is_frozen = True

    def __init__(self, options: TaughtPromptOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.weight = options.W
        context, prompt_template = start_context(clip, 4, "a photo of a")
        self.prompts = ClassPrompts(clip, prompt_template, classnames, n_ctx=4)
        self.prompt_learner = PromptLearner(context)
        self.teacher = frozen_text_features(clip, [template, "a picture of the {}."], classnames)
        self.sum = torch.zeros_like(context)

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode(self.prompt_learner.ctx)

    def losses(self, output: Output, batch: Batch) -> Losses:
        assert output.text_features is not None
        teacher_images = frozen_image_features(self.clip, batch.images)
        return {
            "ce": (1.0, F.cross_entropy(output.logits, batch.labels)),
            "text": (self.weight, 1 - (output.text_features * self.teacher).sum(-1).mean()),
            "image": (0.0, (output.image_features - teacher_images).abs().mean()),  # only logged
        }

    def end_epoch(self, epoch: int, is_last: bool) -> None:
        self.sum = self.sum + self.prompt_learner.ctx.detach().cpu()
        if is_last:
            with torch.no_grad():
                self.prompt_learner.ctx.copy_(self.sum / (epoch + 1))

    def state(self) -> dict[str, torch.Tensor]:
        return {"sum": self.sum}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.sum = state["sum"]


@TRAINER_REGISTRY.register()
class TaughtPrompt(PromptTrainer):
    """Trains TaughtPrompt. The weight of the loss "text" depends on the data set."""

    method = TaughtPromptCLIP
    options = TaughtPromptOptions
    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "CoOp/vit_b16_ep50"

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        return {"TRAINER.TAUGHTPROMPT.W": 2.0} if dataset == "Folder" else {}
