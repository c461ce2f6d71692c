"""Reads weights from files. Code in a file is never run, except in OpenAI's official archives.

`clip.loading` calls `read_weights`. OpenAI's functions in `clip.clip` call `plain_file`.
"""

import dataclasses
import hashlib
import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from clip.download import OFFICIAL, WeightsError, cache_folder, sha256
from clip.sizes import OPENAI_MEAN, OPENAI_STD, Sizes
from untrusted import torch_files

#: Mapping of a weight's name to its tensor.
Weights = Mapping[str, torch.Tensor]


def read_weights(path: str | Path) -> Weights:
    """Read a mapping of names to tensors from a TorchScript archive, a safetensors file or a state dict.

    Only an official archive of OpenAI (by its SHA-256) is opened by torch. Any other archive could run code, so its
    tensors are read without the code.

    Raises:
        WeightsError: the file can't be read, or has another format.
    """
    try:
        if str(path).endswith(".safetensors"):
            return load_file(path)
        if torch_files.is_torchscript(path) and sha256(path) in OFFICIAL:
            return torch.jit.load(str(path), map_location="cpu").state_dict()
        state = torch_files.read(path)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"can't read the weights {path}: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"can't read the weights {path}: its content isn't a dict of tensors")
    if not all(isinstance(name, str) for name in state):
        raise WeightsError(f"can't read the weights {path}: the name of a tensor isn't a text")
    return state


def plain_file(source: Path, state: Weights, sizes: Sizes | None, root: str | Path | None = None) -> str:
    """Write weights as a state dict that `torch.load` reads, and return the file's path.

    Trainers that were written for OpenAI's functions open the file of a model themselves. For an unchanged `source`, an
    earlier file is used.

    Args:
        source: the file or folder that the weights were read from.
        state: weights with OpenAI's parameter names.
        sizes: the model's sizes, or None if they are inferred from the weights.
        root: folder for the file; None: ~/.cache/clip.

    Raises:
        WeightsError: OpenAI's `build_model` would build another model from these weights, because it infers the
            activation and the number of heads. Or the file can't be written.
    """
    if sizes and dataclasses.replace(sizes, mean=OPENAI_MEAN, std=OPENAI_STD) != Sizes.from_state_dict(state):
        raise WeightsError(
            f"{source} has another activation or another number of heads than OpenAI's models. "
            "A trainer that calls clip.build_model can't use it"
        )
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    facts = [(str(file.absolute()), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    digest = hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()[:16]
    target = cache_folder(root) / f"{source.stem}-{digest}.pt"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
        content = io.BytesIO()  # if torch wrote to the disk itself, a full disk would raise an error without a reason
        torch.save({name: tensor.clone() for name, tensor in state.items()}, content)
        try:
            unfinished.write_bytes(content.getbuffer())
            os.replace(unfinished, target)
        except OSError as error:
            raise WeightsError(f"can't write {target}: {error.strerror}") from error
        finally:
            unfinished.unlink(missing_ok=True)
    return str(target)
