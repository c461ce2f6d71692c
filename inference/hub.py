"""Exported classifiers on the Hugging Face hub: `push` uploads a folder, `download` fetches one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.utils.errors import InputError
from inference.record import EXPORTED, ONNX, RECORD

PREFIX = "hf-hub:"
#: Files of an exported classifier that are loaded here. model.pt2 isn't, because PyTorch may unpickle parts of it.
_LOADED = (ONNX, RECORD)


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """A context manager that turns the errors of huggingface_hub, or its absence, into an InputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError("the hub needs the package huggingface_hub: pip install huggingface_hub") from error
    except Exception as error:  # the libraries below have unrelated error types
        raise InputError(f"can't {what}: {' '.join(str(error).split())[:300]}") from error


def download(name: str) -> Path:
    """Download the exported classifier OWNER/NAME, and return its folder in the cache of huggingface_hub.

    The environment variable HF_ENDPOINT is the address of another hub.

    Raises InputError if the package is missing, the hub can't be reached or the repository holds no classifier.
    """
    with _hub_errors(f"download {PREFIX}{name}"):
        from huggingface_hub import snapshot_download

        endpoint = os.environ.get("HF_ENDPOINT")
        folder = Path(snapshot_download(name, allow_patterns=list(_LOADED), endpoint=endpoint))
    if not (folder / RECORD).is_file():
        raise InputError(f"{PREFIX}{name} has no {RECORD}, so export.py didn't write it")
    return folder


def push(folder: Path, name: str, private: bool = False) -> str:
    """Upload the exported classifier in `folder` to the repository OWNER/NAME, and return the address of the commit.

    The repository is made if it is missing. huggingface_hub reads the token of `hf auth login` or HF_TOKEN.

    Raises InputError if the folder holds no exported classifier, or if the hub refuses the upload.
    """
    missing = [file for file in EXPORTED if not (folder / file).is_file()]
    if missing:
        raise InputError(f"{folder} isn't an exported classifier, because it has no {missing[0]}")
    with _hub_errors(f"upload {folder} to {name}"):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(EXPORTED)))
