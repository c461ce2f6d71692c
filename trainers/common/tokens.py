"""Class names in a template, as token ids, with warnings about names that CLIP can't tell apart or doesn't know."""

import functools
from collections.abc import Sequence

import torch

from clip.clip import tokenize
from clip.model import CLIP
from clip.simple_tokenizer import tokenizer
from dassl.utils import InputError


def tokenize_classes(clip: CLIP, template: str, classnames: Sequence[str]) -> torch.Tensor:
    """Token ids (n_classes, context length) of the template filled with each class name.

    Underscores in names become spaces. Warns about two names with the same prompt, and about words that the CLIP was
    never trained on.

    Raises:
        InputError: the template doesn't have exactly one {}, or a name is too long; names it.
    """
    if template.count("{}") != 1:
        raise InputError(f"the template {template!r} must have one {{}} for the class name")
    rows = []
    for name in classnames:
        try:
            rows.append(tokenize(template.replace("{}", name.replace("_", " ")), clip.context_length))
        except RuntimeError as error:
            raise InputError(f"the class name {name!r} is too long: {error}") from error
    ids = torch.cat(rows)
    _warn_of_equal_prompts(ids, classnames)
    if clip.trained_rows is not None:
        words = sorted({word for name in classnames for word in name.replace("_", " ").split()})
        _warn_of_untrained_words(*(word for word in words if not clip.trained_rows[tokenizer().encode(word)].all()))
    return ids


def _warn_of_equal_prompts(ids: torch.Tensor, classnames: Sequence[str]) -> None:
    first: dict[tuple[int, ...], str] = {}
    for row, name in zip(ids.tolist(), classnames, strict=True):
        other = first.setdefault(tuple(row), name)
        if other != name:
            print(f"Warning: the classes {other!r} and {name!r} have the same prompt, so they can't be told apart")


@functools.cache  # warns once about the same words
def _warn_of_untrained_words(*words: str) -> None:
    if words:
        print(f"Warning: this CLIP was never trained on {', '.join(map(repr, words))} of the class names")
