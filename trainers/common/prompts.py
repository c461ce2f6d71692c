"""Text prompts with a learned context: where a context starts from, and the prompts of all classes around it.

The methods' files are made of these pieces. The one idea: a prompt is a frozen part (template and class name), kept
as embeddings, into which the learned context is put at every step.
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
    """The learned context: (n_ctx, width), or (n_groups, n_ctx, width) with one for each class or task."""

    def __init__(self, context: torch.Tensor):
        super().__init__()
        self.ctx = nn.Parameter(context)


def start_context(clip: CLIP, n_ctx: int, words: str = "", copies: int = 0) -> tuple[torch.Tensor, str]:
    """A context to learn, and the template that it belongs to.

    With `words` the context starts as the embeddings of their first n_ctx tokens, and the template keeps all words.
    Without, it is drawn from N(0, 0.02**2), and the template has n_ctx placeholder words.

    Args:
        copies: number of contexts, one for each class or task; 0: one context for all.

    Returns:
        The context (n_ctx, width) or (copies, n_ctx, width), float32, on the CPU; the template, with {} for the class
        name.

    Raises:
        InputError: n_ctx < 1, or the words have fewer than n_ctx tokens, so the context would replace class names.
    """
    if n_ctx < 1:
        raise InputError(f"the context needs at least one token, not {n_ctx} (N_CTX)")
    if not words:
        shape = (copies, n_ctx) if copies else (n_ctx,)
        context = nn.init.normal_(torch.empty(*shape, clip.ln_final.weight.shape[0]), std=0.02)
        return context, " ".join(["X"] * n_ctx) + " {}."
    words = words.replace("_", " ")
    ids = tokenize(words)[0]  # (context length,)
    n_tokens = int(ids.argmax()) - 1  # tokens between SOS and EOT
    if n_tokens < n_ctx:
        raise InputError(
            f"CTX_INIT {words!r} has {n_tokens} tokens, fewer than N_CTX {n_ctx}: the context would replace class names"
        )
    with torch.no_grad():
        context = clip.token_embedding(ids[1 : 1 + n_ctx].to(clip.logit_scale.device)).cpu()
    return context.float(), words + " {}."


def start_coop_context(clip: CLIP, n_ctx: int, words: str, copies: int = 0) -> tuple[torch.Tensor, str]:
    """`start_context` by CoOp's rule: the number of words in CTX_INIT overrides N_CTX, and one context serves all.

    A word counts as one even if it has two tokens.
    """
    words = words.replace("_", " ")
    return start_context(clip, len(words.split(" ")), words) if words else start_context(clip, n_ctx, "", copies)


def words_unless_long(words: str, n_ctx: int) -> str:
    """The words to start from by the rule of MaPLe and IVLP: they are ignored if the context has over 4 tokens."""
    return words if n_ctx <= 4 else ""


class ClassPrompts:
    """Prompts of all classes in groups; the classes of a group share one context.

    With position "end" the prompt is SOS, context, rest of the template, class name. The contexts are then in the
    prefixes that the text tower computes once for each group. Otherwise only SOS is shared, and the context is put
    among the class tokens: "middle" puts half of it before the name, "front" all of it after the name.

    Args:
        template: with {} for the class name; its first n_ctx words are replaced by the context.
        n_ctx: number of context tokens.
        group: (n_classes,) index of the context of each class; None: all classes share one.

    Raises:
        InputError: an unknown position, or a name that is too long.
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
            raise unknown("place of the class name (CLASS_TOKEN_POSITION)", position, n_before_name)
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
        self.used_contexts: torch.Tensor | None = None  # after `subset`: the contexts that its classes use

    def _rows_around_names(self, classnames: Sequence[str], n_ctx: int, n_before: int) -> torch.Tensor:
        """For each class token after SOS its row in `cat([class_tokens, contexts])`: n_before context tokens, the
        name's tokens, the other context tokens, the rest."""
        rows, end = [], 0
        for label, name in enumerate(classnames):
            start, end = end, end + int(self.layout.lengths[label])
            frozen = list(range(start + n_ctx, end))  # without the template's n_ctx placeholder words
            n_name = len(tokenizer().encode(name.replace("_", " ")))
            first = len(self.class_tokens) + (0 if self.group is None else int(self.group[label]) * n_ctx)
            context = list(range(first, first + n_ctx))
            rows += [*context[:n_before], *frozen[:n_name], *context[n_before:], *frozen[n_name:]]
        return torch.tensor(rows)

    def with_context(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompts' embeddings, with the context in its place.

        Args:
            context: (n_ctx, width) or (n_groups, n_ctx, width).

        Returns:
            Prefixes (1 or n_groups, prefix length, width) and class tokens (n_class_tokens, width).
        """
        context = context.to(self.prefix.dtype).reshape(-1, *context.shape[-2:])  # (n_groups, n_ctx, width)
        if self.rows is not None:
            return self.prefix[None], torch.cat([self.class_tokens, context.flatten(0, 1)])[self.rows]
        if self.used_contexts is not None:
            context = context[self.used_contexts]
        prefix = self.prefix.expand(len(context), -1, -1)  # (n_groups, prefix length, width)
        return torch.cat([prefix[:, :1], context, prefix[:, 1 + context.shape[1] :]], dim=1), self.class_tokens

    def encode(self, context: torch.Tensor, inputs: TowerInputs = NO_INPUTS) -> torch.Tensor:
        """Features of all classes (n_classes, embed_dim), not normalised, for a context as in `with_context`."""
        return self.clip.encode_prompts(*self.with_context(context), self.layout, inputs)

    def subset(self, chosen: torch.Tensor) -> "ClassPrompts":
        """The prompts of the classes `chosen` (k,) alone. `encode` still takes the contexts of all groups."""
        other = copy.copy(self)
        lengths, rows = self.layout.lengths[chosen], self.layout.rows(chosen)  # (k,), (tokens of the chosen,)
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
        """These prompts for each of n_contexts contexts: n_contexts * n_classes prompts, context by context."""
        other = copy.copy(self)
        lengths = self.layout.lengths  # (n_classes,)
        contexts = torch.arange(n_contexts, device=lengths.device)
        other.class_tokens = self.class_tokens.repeat(n_contexts, 1)
        other.group = contexts.repeat_interleave(len(lengths))  # (n_contexts * n_classes,)
        other.layout = Layout(lengths.repeat(n_contexts), other.group)
        return other
