"""CLIP with OpenAI's names (`clip.load`, `clip.tokenize`). Its towers take prompts and adapters as arguments."""

from clip.clip import available_models, load, tokenize

__all__ = ["available_models", "load", "tokenize"]
