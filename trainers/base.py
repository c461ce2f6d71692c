"""The public face of what the methods share."""

from trainers.common.trainer import Method, PromptTrainer, load_backbone, normalized

__all__ = ["Method", "PromptTrainer", "load_backbone", "normalized"]
