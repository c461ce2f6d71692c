"""Reads the learned tensors and the class names from a checkpoint.

Our checkpoints hold only the learned tensors of a model. Official checkpoints may hold the whole model.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from clip.model import CLIP
from dassl.data.datasets import Task
from dassl.utils import InputError
from trainers.common.method import ClassNames, Method

#: Keys under which official checkpoints store the embeddings of the training class names. These keys are skipped,
#: because we compute the embeddings from the current class names.
_CLASS_TOKENS = ("token_prefix", "token_suffix")


def learned_tensors(checkpoint: Mapping, part: nn.Module, method: Method, path: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors for the learned parameters and the buffers of `part`.

    Weights of the frozen CLIP, which official checkpoints may hold, are skipped.

    Args:
        part: the method, or a submodule of the method if the checkpoint holds only this submodule.
        method: the whole method. `method.ignored_keys` and `method.renamed_keys` list the keys to skip and to rename.
        path: the checkpoint's file, for error messages.

    Raises:
        InputError: the checkpoint has no state dict; a tensor is missing, is unknown or has the wrong shape; or
            the frozen weights belong to another backbone.
    """
    state = checkpoint.get("state_dict") if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        raise InputError(f"{path} isn't a checkpoint, because it has no state_dict")
    wanted, frozen = part.state_dict(), _frozen_shapes(method.clip)
    found: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix("module.")
        name = method.renamed_keys.get(name, name)
        if name.split(".")[-1] in _CLASS_TOKENS or name.startswith(method.ignored_keys or ("\0",)):
            continue
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: {name} isn't a tensor")
        if name in wanted:
            if not torch.isfinite(tensor).all():
                raise InputError(f"{path}: {name} contains infinite or NaN values")
            found[name] = tensor
        elif name not in frozen:
            raise InputError(f"{path} has a tensor {name}, but this model only learns {', '.join(wanted)}")
        elif tensor.shape != frozen[name]:
            raise InputError(
                f"{path} was trained with another backbone: the shape of {name} is {tuple(tensor.shape)}, but this "
                f"backbone has {tuple(frozen[name])}"
            )
    if all(name in found for name in wanted):
        found = method.for_classes(found, trained_classes(checkpoint))
    for name, ours in wanted.items():
        if name not in found:
            raise InputError(f"{path} has no {name}. The learned tensors in the file are: {', '.join(found) or 'none'}")
        if found[name].shape != ours.shape and name not in method.sized_by_data:
            raise InputError(
                f"{path}: the shape of {name} is {tuple(found[name].shape)}, but this model needs {tuple(ours.shape)}"
            )
    return found


def plain_names(classes: ClassNames) -> list[str | list[str | list[str]]]:
    """Convert classes or tasks to strings and lists, so that a checkpoint contains no pickled Python classes.

    A class name may be an instance of a subclass of str, such as NumPy's, so class names are converted too.
    """
    return [
        str(item) if isinstance(item, str) else [str(item.name), [str(name) for name in item.classnames]]
        for item in classes
    ]


def note_trained_classes(method: Method, trained: ClassNames | None, default: bool, source: Path) -> None:
    """Set `method.has_new_classes`, which says whether the method has a class that it wasn't trained on.

    Args:
        trained: the classes that a checkpoint was trained on. None: the checkpoint doesn't store them.
        default: the value of `has_new_classes` if `trained` is None.
        source: the checkpoint or its folder, for the error message.

    Raises:
        InputError: the method was trained on other classes, and the method can't classify new classes.
    """
    if trained is None:
        method.has_new_classes = default
        return
    classes, known = _flat(method.classnames), _flat(trained)
    method.has_new_classes = not set(classes) <= set(known)
    if method.only_trained_classes and classes != known:
        raise InputError(
            f"{source} was trained on other classes, and {type(method).__name__} can't classify new classes"
        )


def _flat(classes: ClassNames) -> list[str]:
    """Return all class names in one list. If `classes` holds tasks, the names of the tasks are dropped."""
    names: list[str] = []
    for item in classes:
        names += [item] if isinstance(item, str) else item.classnames
    return names


def trained_classes(checkpoint: Mapping) -> ClassNames | None:
    """Return the classes or tasks that a checkpoint was trained on.

    Return None if the checkpoint stores no classes, as in official checkpoints and in our old checkpoints.
    """
    names = checkpoint.get("classnames")
    if names is None:
        return None
    if all(isinstance(name, str) for name in names):
        return list(names)
    return [Task(name, list(classnames)) for name, classnames in names]


def _frozen_shapes(clip: CLIP) -> dict[str, torch.Size]:
    """Return {name: shape} of the frozen CLIP's weights. The names are the ones used in official checkpoints."""
    shapes = {}
    for name, tensor in clip.state_dict().items():
        if name.startswith("visual."):
            name = name.replace("visual.", "image_encoder.", 1)
        elif name != "logit_scale":
            name = f"text_encoder.{name}"
        shapes[name] = tensor.shape
    return shapes
