"""The learned tensors in a checkpoint. Our checkpoints hold nothing else; official ones hold the whole model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from clip.model import CLIP
from dassl.data.datasets import Task
from dassl.utils import InputError
from trainers.common.method import ClassNames, Method

#: Embeddings of the training classes' names in official checkpoints. We compute them from the names at hand.
_CLASS_TOKENS = ("token_prefix", "token_suffix")


def learned_tensors(checkpoint: Mapping, part: nn.Module, method: Method, path: Path) -> dict[str, torch.Tensor]:
    """The entries of a checkpoint that are learned by `part`, all of them and no others.

    Args:
        part: the method, or the submodule that the checkpoint's folder holds.
        method: names the keys to ignore and to rename; official checkpoints also hold its frozen CLIP's weights.
        path: the checkpoint's file, for errors.

    Raises:
        InputError: no state dict; a tensor that is missing, unknown or of another shape; or frozen weights of another
            backbone.
    """
    state = checkpoint.get("state_dict") if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        raise InputError(f"{path} holds no state_dict")
    wanted, frozen = part.state_dict(), _frozen_shapes(method.clip)
    found: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix("module.")
        name = method.renamed_keys.get(name, name)
        if name.split(".")[-1] in _CLASS_TOKENS or name.startswith(method.ignored_keys or ("\0",)):
            continue
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: {name} is no tensor")
        if name in wanted:
            found[name] = tensor
        elif name not in frozen:
            raise InputError(f"{path} has {name}, which this model doesn't have; its prompts: {', '.join(wanted)}")
        elif tensor.shape != frozen[name]:
            raise InputError(
                f"{path} was trained with another backbone: {name} is {tuple(tensor.shape)}, not {tuple(frozen[name])}"
            )
    for name, ours in wanted.items():
        if name not in found:
            raise InputError(f"{path} has no {name}; it has: {', '.join(found) or 'no prompt of this model'}")
        if found[name].shape != ours.shape and name not in method.sized_by_data:
            raise InputError(f"{path}: {name} is {tuple(found[name].shape)}, but here {tuple(ours.shape)}")
    return found


def plain_names(classes: ClassNames) -> list[str | list[str | list[str]]]:
    """Classes or tasks as strings and lists, which a checkpoint can hold without code."""
    return [item if isinstance(item, str) else [item.name, list(item.classnames)] for item in classes]


def trained_classes(checkpoint: Mapping) -> ClassNames | None:
    """The classes or tasks that a checkpoint was trained on, as `plain_names` saved them.

    Official and older checkpoints don't name them: None.
    """
    names = checkpoint.get("classnames")
    if names is None:
        return None
    if all(isinstance(name, str) for name in names):
        return list(names)
    return [Task(name, list(classnames)) for name, classnames in names]


def _frozen_shapes(clip: CLIP) -> dict[str, torch.Size]:
    """Shapes of the frozen weights under the names that official checkpoints give them."""
    shapes = {}
    for name, tensor in clip.state_dict().items():
        if name.startswith("visual."):
            name = name.replace("visual.", "image_encoder.", 1)
        elif name != "logit_scale":
            name = f"text_encoder.{name}"
        shapes[name] = tensor.shape
    return shapes
