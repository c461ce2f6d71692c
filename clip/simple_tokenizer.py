"""CLIP's tokenizer (byte pair encoding), under the names of OpenAI's module. It wraps open_clip's tokenizer.

`clip.tokenize` and third-party trainers use this tokenizer.
"""

import functools

import regex
from open_clip.tokenizer import SimpleTokenizer as _OpenCLIPTokenizer
from open_clip.tokenizer import default_bpe

__all__ = ["SimpleTokenizer", "default_bpe"]

START, END = "<|startoftext|>", "<|endoftext|>"


class SimpleTokenizer(_OpenCLIPTokenizer):
    """CLIP's tokenizer with 49,408 tokens.

    The tokens are single bytes, single bytes that end a word, merged bytes, the start token and the end token.
    `encode(text)` returns the token ids without the start and end tokens. `decode(ids)` returns the text. The dict
    `encoder` maps tokens to ids, and the dict `decoder` maps ids to tokens.
    """

    def __init__(self, bpe_path: str = default_bpe()) -> None:
        super().__init__(bpe_path)
        for ours, theirs in zip((START, END), ("<start_of_text>", "<end_of_text>"), strict=True):
            number = self.encoder.pop(theirs)
            self.encoder[ours], self.decoder[number] = number, ours
        self.cache = {START: START, END: END}
        special = "|".join(regex.escape(token) for token in (START, END))
        self.pat = regex.compile(
            special + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
        )


@functools.cache
def tokenizer() -> SimpleTokenizer:
    """Return the tokenizer that `tokenize` uses. It is built at the first call."""
    return SimpleTokenizer()
