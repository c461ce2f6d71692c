"""Text prompts with a learned context. `start_context` initialises the context; `ClassPrompts` holds all prompts.

The methods' files use these functions and classes. The frozen part of a prompt (template and class name) is stored as
embeddings. At every step the learned context is inserted into the frozen part.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from clip.clip import tokenize
from clip.inputs import NO_INPUTS, TowerInputs
from clip.model import CLIP
from clip.simple_tokenizer import tokenizer
from clip.text import Layout, Tokens
from dassl.utils import InputError, unknown
from trainers.common.tokens import tokenize_classes


class PromptLearner(nn.Module):
    """Holds the learned context `ctx`.

    Its shape is (n_ctx, width), or (n_groups, n_ctx, width) if each class or task has a separate context.
    """

    def __init__(self, context: torch.Tensor):
        super().__init__()
        self.ctx = nn.Parameter(context)


def start_context(clip: CLIP, n_ctx: int, words: str = "", copies: int = 0) -> tuple[torch.Tensor, str]:
    """Return the initial value of a learned context, and the template into which it is inserted.

    If `words` isn't "", the context is the embeddings of the first `n_ctx` tokens of `words`, and the template starts
    with all of `words`.
    If `words` is "", the context is drawn from N(0, 0.02**2), and the template has `n_ctx` placeholder words.

    Args:
        copies: number of contexts, such as the number of classes. 0: one context for all. Ignored if `words` isn't "".

    Returns:
        The context (n_ctx, width) or (copies, n_ctx, width), float32, on the CPU; and the template, with {} in place of
        the class name.

    Raises:
        InputError: n_ctx < 1; or the words have fewer than n_ctx tokens, so the context would overwrite class names.
    """
    if n_ctx < 1:
        raise InputError(f"N_CTX is {n_ctx}, but the context needs at least one token")
    if not words:
        shape = (copies, n_ctx) if copies else (n_ctx,)
        context = nn.init.normal_(torch.empty(*shape, clip.ln_final.weight.shape[0]), std=0.02)
        return context, " ".join(["X"] * n_ctx) + " {}."
    words = words.replace("_", " ")
    try:
        ids = tokenize(words)[0]  # (context length,)
    except RuntimeError as error:
        raise InputError(f"the initial words of the context (CTX_INIT) are too long: {error}") from error
    n_tokens = int(ids.argmax()) - 1  # tokens between SOS and EOT
    if n_tokens < n_ctx:
        raise InputError(
            f"CTX_INIT {words!r} has {n_tokens} tokens, fewer than N_CTX {n_ctx}, "
            "so the context would overwrite class names"
        )
    with torch.no_grad():
        context = clip.token_embedding(ids[1 : 1 + n_ctx].to(clip.logit_scale.device)).cpu()
    return context.float(), words + " {}."


def start_coop_context(clip: CLIP, n_ctx: int, words: str, copies: int = 0) -> tuple[torch.Tensor, str]:
    """Call `start_context` by CoOp's rules, and return its result.

    If `words` isn't "", the number of words overrides `n_ctx`, even if the tokenizer splits a word into several tokens.
    `copies` is then ignored, so all classes share one context.
    """
    words = words.replace("_", " ")
    return start_context(clip, len(words.split(" ")), words) if words else start_context(clip, n_ctx, "", copies)


def words_unless_long(words: str, n_ctx: int) -> str:
    """Return `words`, or "" if the context has more than 4 tokens (`n_ctx`). MaPLe and IVLP use this for CTX_INIT."""
    return words if n_ctx <= 4 else ""


class ClassPrompts:
    """The prompts of all classes. The classes are in groups, and the classes of a group share one context.

    With position "end", a prompt consists of SOS, the context, the rest of the template, and the class name. Then the
    context is part of the prefix, which the text tower computes once for each group. With the other positions, the
    prefix is only SOS, and the context is placed among the class tokens. "middle" places half of the context before the
    class name and half after the class name. "front" places the whole context after the class name.

    Args:
        template: the prompt, with {} in place of the class name; its first n_ctx tokens are replaced by the context.
        n_ctx: number of context tokens.
        group: (n_classes,) index of the context of each class; None: all classes share one context.

    Raises:
        InputError: `position` is unknown, or a class name is too long.
    """

    def __init__(
        self,
        clip: CLIP,
        template: str,
        classnames: Sequence[str],
        n_ctx: int,
        position: str = "end",
        group: torch.Tensor | None = None,
    ):
        n_before_name = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}
        if position not in n_before_name:
            raise unknown("position of the class name (CLASS_TOKEN_POSITION)", position, n_before_name)
        device = clip.logit_scale.device
        at_end = position == "end"
        tokens = Tokens.cut(tokenize_classes(clip, template, classnames), start=None if at_end else 1).to(device)
        self.clip = clip
        self.group = None if group is None else group.to(device)
        with torch.no_grad():
            self.prefix = clip.token_embedding(tokens.prefix)  # (prefix length, width)
            self.class_tokens = clip.token_embedding(tokens.class_tokens)  # (n_class_tokens, width)
        self.layout = Layout(tokens.layout.lengths, self.group) if at_end and group is not None else tokens.layout
        self.rows: torch.Tensor | None = None  # see `_rows_around_names`; None for "end"
        if not at_end:
            self.rows = self._rows_around_names(classnames, n_ctx, n_before_name[position]).to(device)
        self.used_contexts: torch.Tensor | None = None  # indices of the contexts in use; `subset` sets them. None: all

    def _rows_around_names(self, classnames: Sequence[str], n_ctx: int, n_before: int) -> torch.Tensor:
        """Return row indices into `cat([class_tokens, contexts])`. These rows are the tokens after SOS of all prompts.

        Each prompt has n_before context tokens, the tokens of the class name, the other context tokens, and the
        remaining class tokens.
        """
        rows, end = [], 0
        for label, name in enumerate(classnames):
            start, end = end, end + int(self.layout.lengths[label])
            frozen = list(range(start + n_ctx, end))  # skip the template's n_ctx placeholder words
            n_name = len(tokenizer().encode(name.replace("_", " ")))
            first = len(self.class_tokens) + (0 if self.group is None else int(self.group[label]) * n_ctx)
            context = list(range(first, first + n_ctx))
            rows += [*context[:n_before], *frozen[:n_name], *context[n_before:], *frozen[n_name:]]
        return torch.tensor(rows)

    def with_context(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings of the prompts, with the context inserted.

        Args:
            context: (n_ctx, width) or (n_groups, n_ctx, width).

        Returns:
            Prefixes (1 or n_groups, prefix length, width) and class tokens (n_class_tokens, width).
        """
        context = context.to(self.prefix.dtype)
        context = context[None] if context.ndim == 2 else context  # (n_groups, n_ctx, width)
        if self.rows is not None:
            return self.prefix[None], torch.cat([self.class_tokens, context.flatten(0, 1)])[self.rows]
        if self.used_contexts is not None:
            context = context[self.used_contexts]
        prefix = self.prefix.expand(len(context), -1, -1)  # (n_groups, prefix length, width)
        return torch.cat([prefix[:, :1], context, prefix[:, 1 + context.shape[1] :]], dim=1), self.class_tokens

    def encode(self, context: torch.Tensor, inputs: TowerInputs = NO_INPUTS) -> torch.Tensor:
        """Return the features of all classes (n_classes, embed_dim), not normalised.

        Args:
            context: (n_ctx, width) or (n_groups, n_ctx, width).
            inputs: deep prompts, inserted tokens and adapters of the text tower.
        """
        return self.clip.encode_prompts(*self.with_context(context), self.layout, inputs)

    def encode_template(self, inputs: TowerInputs = NO_INPUTS) -> torch.Tensor:
        """Like `encode`, but with the template's own tokens instead of a context. For methods that learn no context."""
        return self.clip.encode_prompts(self.prefix[None], self.class_tokens, self.layout, inputs)

    def subset(self, chosen: torch.Tensor) -> "ClassPrompts":
        """Return a copy that holds only the prompts of some classes.

        The copy's `encode` still needs the contexts of all groups.

        Args:
            chosen: (k,) indices of the classes.
        """
        other = copy.copy(self)
        lengths, rows = self.layout.lengths[chosen], self.layout.rows(chosen)  # (k,), (n_chosen_tokens,)
        group = None
        if self.rows is not None:
            other.rows = self.rows[rows]
        else:
            other.class_tokens = self.class_tokens[rows]
            if self.group is not None:
                other.used_contexts, group = self.group[chosen].unique(return_inverse=True)
        other.layout = Layout(lengths, group)
        return other

    def for_each_context(self, n_contexts: int) -> "ClassPrompts":
        """Return prompts that combine every context with every class. `n_contexts` is the number of contexts.

        The result has n_contexts * n_classes prompts. The prompts of all classes with context 0 come first, then the
        prompts of all classes with context 1, and so on.
        """
        other = copy.copy(self)
        lengths = self.layout.lengths  # (n_classes,)
        contexts = torch.arange(n_contexts, device=lengths.device)
        other.class_tokens = self.class_tokens.repeat(n_contexts, 1)
        other.group = contexts.repeat_interleave(len(lengths))  # (n_contexts * n_classes,)
        other.layout = Layout(lengths.repeat(n_contexts), other.group)
        return other
