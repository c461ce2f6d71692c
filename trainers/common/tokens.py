"""Puts class names into a template, and returns token ids.

Warns about class names that CLIP can't distinguish or wasn't trained on.
"""

import functools
from collections.abc import Sequence

import torch

from clip.clip import tokenize
from clip.model import CLIP
from clip.simple_tokenizer import tokenizer
from dassl.utils import InputError
from dassl.utils.errors import ClassNameError

_NAMED_WORDS = 10  # a warning names this number of words


def tokenize_classes(
    clip: CLIP, template: str, classnames: Sequence[str], keep_underscores: bool = False
) -> torch.Tensor:
    """Put each class name into the template, and return the token ids (n_classes, context length).

    Underscores in names become spaces, unless `keep_underscores` is True (TaskRes). Prints a warning if two names give
    the same prompt, or if this CLIP was never trained on a word of a name.

    Raises:
        InputError: the template doesn't have exactly one {}, or a class name is too long.
    """
    if template.count("{}") != 1:
        raise InputError(f"the template {template!r} must have one {{}} for the class name")
    rows = []
    for name in classnames:
        try:
            text = name if keep_underscores else name.replace("_", " ")
            rows.append(tokenize(template.replace("{}", text), clip.context_length))
        except RuntimeError as error:
            raise ClassNameError(f"the class name {name!r} is too long: {error}") from error
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
            print(f"Warning: the classes {other!r} and {name!r} have the same prompt, so CLIP can't distinguish them")


@functools.cache  # with the cache, the same words give only one warning
def _warn_of_untrained_words(*words: str) -> None:
    if words:
        named = ", ".join(map(repr, words[:_NAMED_WORDS]))
        more = f" and {len(words) - _NAMED_WORDS} more words" if len(words) > _NAMED_WORDS else ""
        print(f"Warning: this CLIP was never trained on {named}{more} (from the class names)")
