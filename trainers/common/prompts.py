"""Learned contexts and the prompts that they stand in: what the methods' files are made of."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clip import clip
from clip.model import CLIP, VisionTransformer
from clip.simple_tokenizer import tokenizer
from clip.text import Layout, Tokens
from dassl.utils import InputError, unknown


@dataclass
class ClassPrompts:
    """A template filled with every class name, as frozen embeddings: what all begin with and what each has itself."""

    prefix: torch.Tensor  # (P, width)
    class_tokens: torch.Tensor  # (total, width)
    layout: Layout

    @classmethod
    def of(cls, model: CLIP, template: str, classnames: Sequence[str]) -> "ClassPrompts":
        """`template` has {} for the class name. Raises InputError for a name that is too long; names it."""
        tokens = Tokens.cut(tokenize_classes(model, template, classnames)).to(model.logit_scale.device)
        with torch.no_grad():
            return cls(model.token_embedding(tokens.prefix), model.token_embedding(tokens.class_tokens), tokens.layout)

    def with_context(self, context: torch.Tensor) -> torch.Tensor:
        """The prefix with `context` (n, width) or (G, n, width) in positions 1 to n: (1 or G, P, width)."""
        context = context.to(self.prefix.dtype).reshape(-1, *context.shape[-2:])
        prefix = self.prefix.expand(len(context), -1, -1)
        return torch.cat([prefix[:, :1], context, prefix[:, 1 + context.shape[1] :]], dim=1)

    def subset(self, chosen: torch.Tensor) -> "ClassPrompts":
        """The prompts of some classes only, by number (k,)."""
        return ClassPrompts(
            self.prefix, self.class_tokens[self.layout.rows(chosen)], Layout(self.layout.lengths[chosen])
        )


def tokenize_classes(model: CLIP, template: str, classnames: Sequence[str]) -> torch.Tensor:
    """Token ids (classes, context length) of the filled template; underscores in names are spaces."""
    if template.count("{}") != 1:
        raise InputError(f"the template {template!r} must have one {{}} for the class name")
    rows = []
    for name in classnames:
        try:
            rows.append(clip.tokenize(template.replace("{}", name.replace("_", " ")), model.context_length))
        except RuntimeError as error:
            raise InputError(f"the class name {name!r} is too long: {error}") from error
    ids = torch.cat(rows)
    first: dict[tuple, str] = {}
    twins = [(first.setdefault(tuple(row), name), name) for row, name in zip(ids.tolist(), classnames, strict=True)]
    for one, other in twins:
        if one != other:
            print(f"Warning: the classes {one!r} and {other!r} have the same prompt, so they can't be told apart")
    if model.trained_rows is not None:
        words = sorted({word for name in classnames for word in name.replace("_", " ").split()})
        _warn_of_words(*(word for word in words if not model.trained_rows[tokenizer().encode(word)].all()))
    return ids


@functools.cache  # once for the same words
def _warn_of_words(*words: str) -> None:
    if words:
        print(f"Warning: this CLIP was never trained on {', '.join(map(repr, words))} of the class names")


def start_context(model: CLIP, n_ctx: int, words: str = "", copies: int = 0) -> tuple[torch.Tensor, str]:
    """A context to learn and the template that it stands in.

    With `words` the context starts as the embeddings of their first n_ctx tokens, and the template keeps all of them;
    else it is drawn from N(0, 0.02**2), in the places of n_ctx dummy words.

    Args:
        copies: a context of its own for each of so many classes or tasks; 0: one for all.

    Returns:
        The context (n_ctx, width) or (copies, n_ctx, width), float32, on the CPU, and the template with {} for the
        class name.

    Raises:
        InputError: n_ctx < 1, or the words have fewer than n_ctx tokens: the context would cover class names.
    """
    if n_ctx < 1:
        raise InputError(f"the context needs at least one token, not {n_ctx} (N_CTX)")
    if not words:
        shape = (copies, n_ctx) if copies else (n_ctx,)
        context = nn.init.normal_(torch.empty(*shape, model.ln_final.weight.shape[0]), std=0.02)
        return context, " ".join(["X"] * n_ctx) + " {}."
    words = words.replace("_", " ")
    ids = clip.tokenize(words)[0]
    n_words = int(ids.argmax()) - 1  # between SOS and EOT
    if n_words < n_ctx:
        raise InputError(f"CTX_INIT {words!r} has {n_words} tokens, fewer than N_CTX {n_ctx}: names would be covered")
    with torch.no_grad():
        context = model.token_embedding(ids[1 : 1 + n_ctx].to(model.logit_scale.device)).cpu()
    return context.float(), words + " {}."


def words_unless_long(opts_words: str, n_ctx: int) -> str:
    """MaPLe's and IVLP's rule: the words of CTX_INIT count for up to 4 tokens of context only."""
    return opts_words if n_ctx <= 4 else ""


def check_depth(model: CLIP, depth: int, key: str, towers: Sequence[str] = ("vision", "text")) -> None:
    """Raise InputError unless prompts can stand in `depth` layers of the named towers."""
    if "vision" in towers and not isinstance(model.visual, VisionTransformer):
        raise InputError("the image tower is a ResNet, which has no place for prompts: choose a ViT (MODEL.BACKBONE)")
    transformers = {"vision": getattr(model.visual, "transformer", None), "text": model.transformer}
    for tower in towers:
        layers = transformers[tower].layers  # type: ignore[union-attr]
        if not 1 <= depth <= layers:
            raise InputError(f"{key} {depth}: the {tower} tower has layers 1 to {layers}")


def coop_context(model: CLIP, n_ctx: int, words: str, copies: int = 0) -> tuple[torch.Tensor, str]:
    """`start_context` by CoOp's rule: the number of words in CTX_INIT goes before N_CTX, even where a word is two
    tokens, and words make one context for all classes."""
    words = words.replace("_", " ")
    return start_context(model, len(words.split(" ")), words) if words else start_context(model, n_ctx, "", copies)


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
        ids = tokenize_classes(model, template, classnames)
        tokens = Tokens.cut(ids, start=1).to(model.logit_scale.device)
        order, end = [], 0  # of every class's tokens: below len(own) a token, above it a context vector
        for label, name in enumerate(classnames):
            start, end = end, end + int(tokens.layout.lengths[label])
            own = list(range(start + n, end))  # without the template's n dummy words
            split = 0 if position == "end" else len(tokenizer().encode(name.replace("_", " ")))
            context_rows = [len(tokens.class_tokens) + (label * n if per_class else 0) + i for i in range(n)]
            cut = before[position]
            order += [*context_rows[:cut], *own[:split], *context_rows[cut:], *own[split:]]
        self.order = torch.tensor(order, device=tokens.class_tokens.device)
        self.layout: Layout = tokens.layout
        with torch.no_grad():
            self.prefix, self.tokens = (
                model.token_embedding(tokens.prefix)[None],
                model.token_embedding(tokens.class_tokens),
            )

    def subset(self, chosen: torch.Tensor) -> "PlacedContext":
        """The prompts of some classes only, by number (k,); `own` still takes the contexts of all."""
        other = copy.copy(self)
        other.order = self.order[self.layout.rows(chosen)]
        other.layout = Layout(self.layout.lengths[chosen])
        return other

    def class_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Embeddings of all classes' own tokens, (total, width)."""
        return torch.cat([self.tokens, context.flatten(0, -2).to(self.tokens.dtype)])[self.order]


class TowerPrompts(nn.Module):
    """Prompts (n, width) of a tower's layers, under the names that they have in official checkpoints.

    Args:
        layers: which layers have prompts: 0 is `VPT`, layer i is `transformer.resblocks.<i>.VPT_shallow`.
    """

    def __init__(self, layers: Sequence[int], n: int, width: int):
        super().__init__()
        self.layers = list(layers)
        blocks = nn.ModuleDict()
        for layer in layers:
            prompt = nn.Parameter(nn.init.normal_(torch.empty(n, width), std=0.02))
            if layer == 0:
                self.VPT = prompt
            else:
                blocks[str(layer)] = nn.Module()
                blocks[str(layer)].register_parameter("VPT_shallow", prompt)
        self.transformer = nn.Module()
        self.transformer.add_module("resblocks", blocks)

    def prompts(self) -> dict[int, torch.Tensor]:
        """layer -> prompt (n, width)"""
        return dict(zip(self.layers, self.parameters(), strict=True))
