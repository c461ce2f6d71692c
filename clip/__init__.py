"""CLIP with OpenAI's surface (`clip.load`, `clip.tokenize`), whose towers take prompts as arguments."""

from clip.clip import available_models, load, tokenize

__all__ = ["available_models", "load", "tokenize"]
