"""Prompts out of a checkpoint: ours hold nothing else, the official ones the whole model."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from clip.model import CLIP
from dassl.utils import InputError

#: Embeddings of the training classes' names, which official checkpoints carry along; ours come from the names at hand.
_CLASS_TOKENS = ("token_prefix", "token_suffix")


def prompts_of(checkpoint: dict[str, Any], part: nn.Module, model: CLIP, path: Path) -> dict[str, torch.Tensor]:
    """The entries of a checkpoint that are learnable parameters of `part`, all of them and no others.

    `model` is the frozen CLIP, whose weights official checkpoints carry along.

    Raises:
        InputError: no state dict; a prompt that is missing, that the model doesn't have, or that has another shape; or
            frozen weights of another backbone.
    """
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path} holds no state_dict")
    wanted, frozen = part.state_dict(), _frozen(model)
    found = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if name.split(".")[-1] in _CLASS_TOKENS:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: {name} is no tensor")
        if name in wanted:
            found[name] = tensor
        elif name not in frozen:
            raise InputError(f"{path} has {name}, which this model has no place for; its prompts: {', '.join(wanted)}")
        elif tensor.shape != frozen[name]:
            raise InputError(
                f"{path} was trained with another backbone: {name} is {tuple(tensor.shape)}, not {tuple(frozen[name])}"
            )
    for name, own in wanted.items():
        if name not in found:
            raise InputError(f"{path} has no {name}; it has: {', '.join(found) or 'no prompt of this model'}")
        if found[name].shape != own.shape:
            raise InputError(f"{path}: {name} is {tuple(found[name].shape)}, but here {tuple(own.shape)}")
    return found


def _frozen(clip_model: CLIP) -> dict[str, torch.Size]:
    """Shapes of the frozen weights under the names that they have in official checkpoints."""
    return {
        (
            name.replace("visual.", "image_encoder.", 1)
            if name.startswith("visual.")
            else name
            if name == "logit_scale"
            else f"text_encoder.{name}"
        ): tensor.shape
        for name, tensor in clip_model.state_dict().items()
    }
