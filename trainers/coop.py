"""CoOp: Learning to Prompt for Vision-Language Models (Zhou et al., IJCV 2022, arXiv 2109.01134).

The words before the class name are learned vectors, for all classes or for each (equation 2); CLIP stays as it is.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from clip.model import CLIP
from clip.simple_tokenizer import tokenizer
from clip.text import Layout, Tokens
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import unknown
from trainers.base import ClassPrompts, PromptedCLIP, PromptTrainer, start_context, tokenize_classes


class PromptLearner(nn.Module):
    """The context: (n, width), or (classes, n, width) where each class has its own."""

    def __init__(self, context: torch.Tensor):
        super().__init__()
        self.ctx = nn.Parameter(context)


class PlacedContext:
    """Prompts with the context somewhere among a class's own tokens, or another for each class; SOS is all they share.

    Args:
        n: number of context tokens.
        per_class: whether each class has a context of its own.
        position: "end": the context, then the class name; "middle": its first half, the name, the other half;
            "front": the name, then the context.
    """

    def __init__(self, model: CLIP, template: str, classnames: Sequence[str], n: int, position: str, per_class: bool):
        before = {"end": n, "middle": n // 2, "front": 0}
        if position not in before:
            raise unknown("place of the class name (CLASS_TOKEN_POSITION)", position, before)
        ids = tokenize_classes(template, classnames, model.context_length)
        tokens = Tokens.cut(ids, start=1).to(model.logit_scale.device)
        order, end = [], 0  # of every class's tokens: below len(own) a token, above it a context vector
        for label, name in enumerate(classnames):
            start, end = end, end + int(tokens.layout.lengths[label])
            own = list(range(start + n, end))  # without the template's n dummy words
            split = 0 if position == "end" else len(tokenizer().encode(name.replace("_", " ")))
            context_rows = [len(tokens.own) + (label * n if per_class else 0) + i for i in range(n)]
            cut = before[position]
            order += [*context_rows[:cut], *own[:split], *context_rows[cut:], *own[split:]]
        self.order = torch.tensor(order, device=tokens.own.device)
        self.layout: Layout = tokens.layout
        with torch.no_grad():
            self.prefix, self.tokens = model.token_embedding(tokens.prefix)[None], model.token_embedding(tokens.own)

    def subset(self, chosen: torch.Tensor) -> "PlacedContext":
        """The prompts of some classes only, by number (k,); `own` still takes the contexts of all."""
        other = copy.copy(self)
        other.order = self.order[self.layout.rows(chosen)]
        other.layout = Layout(self.layout.lengths[chosen])
        return other

    def own(self, context: torch.Tensor) -> torch.Tensor:
        """Embeddings of all classes' own tokens, (total, width)."""
        return torch.cat([self.tokens, context.flatten(0, -2).to(self.tokens.dtype)])[self.order]


class CoOpCLIP(PromptedCLIP):
    """CLIP with a learned context in the text prompts."""

    def __init__(self, model: CLIP, prompt_learner: PromptLearner, prompts: ClassPrompts | PlacedContext):
        super().__init__(model)
        self.prompt_learner = prompt_learner
        self.prompts = prompts

    def encode_text(self) -> torch.Tensor:
        context = self.prompt_learner.ctx
        if isinstance(self.prompts, ClassPrompts):
            return self.clip.encode_prompts(self.prompts.behind(context), self.prompts.own, self.prompts.layout)
        return self.clip.encode_prompts(self.prompts.prefix, self.prompts.own(context), self.prompts.layout)


def coop_context(model: CLIP, n_ctx: int, words: str, copies: int = 0) -> tuple[torch.Tensor, str]:
    """`start_context` by CoOp's rule: the number of words in CTX_INIT goes before N_CTX, even where a word is two
    tokens, and words make one context for all classes."""
    words = words.replace("_", " ")
    return start_context(model, len(words.split(" ")), words) if words else start_context(model, n_ctx, "", copies)


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Config node TRAINER.COOP."""

    checkpoints = {"prompt_learner": "prompt_learner"}
    default_config = "vit_b16_ep50_ctxv1"  # what CoCoOp's paper compares with: 4 words, 50 epochs

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> CoOpCLIP:
        opts, names = cls.options(cfg), dataset.classnames
        context, template = coop_context(model, opts.N_CTX, opts.CTX_INIT, len(names) if opts.CSC else 0)
        prompts: ClassPrompts | PlacedContext
        if context.ndim == 2 and opts.CLASS_TOKEN_POSITION == "end":
            prompts = ClassPrompts.of(model, template, names)
        else:
            n, position, per_class = context.shape[-2], opts.CLASS_TOKEN_POSITION, context.ndim == 3
            prompts = PlacedContext(model, template, names, n, position, per_class)
        return CoOpCLIP(model, PromptLearner(context), prompts)
