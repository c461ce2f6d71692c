"""Exported classifiers on the Hugging Face hub: `push` uploads a folder, `download` fetches one."""

from pathlib import Path

from dassl.utils.errors import InputError
from inference.record import RECORD

PREFIX = "hf-hub:"
#: Files of an exported classifier that are loaded here. model.pt2 isn't, because PyTorch may unpickle parts of it.
_LOADED = ("model.onnx", "model.onnx.data", RECORD)


def download(name: str) -> Path:
    """Download the exported classifier OWNER/NAME, and return its folder in the cache of huggingface_hub.

    Raises InputError if the package is missing, the hub can't be reached or the repository holds no classifier.
    """
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise InputError("the hub needs the package huggingface_hub: pip install huggingface_hub") from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_LOADED)))
    except Exception as error:  # the libraries below have unrelated error types
        raise InputError(f"can't download {PREFIX}{name}: {' '.join(str(error).split())[:300]}") from error
    if not (folder / RECORD).is_file():
        raise InputError(f"{PREFIX}{name} holds no {RECORD}, so export.py didn't write it")
    return folder
