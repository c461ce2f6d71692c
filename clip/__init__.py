"""CLIP's model, weights and tokenizer, with the function names of OpenAI's package (`clip.load`, `clip.tokenize`).

Unlike in OpenAI's package, prompts and adapters can be passed to the image tower and the text tower as arguments.
"""

from clip.clip import available_models, load, tokenize

__all__ = ["available_models", "load", "tokenize"]
