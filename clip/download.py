"""Names of models and the places of their weights, and a download that checks SHA-256.

`clip.loading` and OpenAI's functions in `clip.clip` use this module. The SHA-256 of the official files are also used by
`clip.weights`: torch runs code in a TorchScript archive, so `clip.weights` lets torch open only the official archives.
"""

import contextlib
import hashlib
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from clip import mini

_OPENAI = "https://openaipublic.azureedge.net/clip/models"
#: Mapping of a model's name to a URL or to a local path. The last folder in a URL is the file's SHA-256.
MODELS = {
    "RN50": f"{_OPENAI}/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
    "RN101": f"{_OPENAI}/8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt",
    "RN50x4": f"{_OPENAI}/7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt",
    "RN50x16": f"{_OPENAI}/52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt",
    "RN50x64": f"{_OPENAI}/be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt",
    "ViT-B/32": f"{_OPENAI}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    "ViT-B/16": f"{_OPENAI}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
    "ViT-L/14": f"{_OPENAI}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
    "ViT-L/14@336px": f"{_OPENAI}/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
    mini.NAME: str(mini.FILE),
}
#: SHA-256 of each official file.
OFFICIAL = frozenset(url.split("/")[-2] for url in MODELS.values() if url.startswith(_OPENAI))
#: Seconds without a byte after which a download fails.
TIMEOUT = 60.0


class WeightsError(RuntimeError):
    """Raised if weights can't be downloaded or read. The message is a single line."""


def is_url(source: str) -> bool:
    """Return whether an entry of `MODELS` is a URL. Otherwise it is a local path."""
    return "://" in source


def cache_folder(root: str | Path | None = None) -> Path:
    """Return the folder for weights: `root`, or ~/.cache/clip if `root` is None."""
    try:
        return Path(root or "~/.cache/clip").expanduser()
    except RuntimeError as error:  # there is neither HOME nor an account
        raise WeightsError("there is no home folder for weights; set HOME, or set MODEL.BACKBONE.PATH") from error


@contextlib.contextmanager
def replaced(name: str, path: str | Path) -> Iterator[None]:
    """A context manager in which the model `name` has its weights at a local path (a file or a folder).

    Trainers that were written for OpenAI's functions know only names. So MODEL.BACKBONE.PATH also works for them. If
    `path` is "", nothing is replaced.
    """
    before = dict(MODELS)
    if path:
        MODELS[name] = str(Path(path).expanduser().absolute())
    try:
        yield
    finally:
        MODELS.clear()
        MODELS.update(before)


def download(url: str, root: str | Path | None = None) -> str:
    """Download the file at `url` to the folder `root` and return its path. An existing file isn't downloaded again.

    The last folder in the URL is the file's SHA-256. An existing file with the wrong SHA-256 is replaced.

    Args:
        root: target folder; None: ~/.cache/clip.

    Raises:
        WeightsError: the download fails; or the downloaded file has the wrong SHA-256; or the target exists, but isn't
            a regular file.
    """
    folder = cache_folder(root)
    expected, name = url.split("/")[-2:]
    target = folder / name
    if target.exists() and not target.is_file():
        raise WeightsError(f"{target} exists and is not a regular file")
    if target.is_file():
        if sha256(target) == expected:
            return str(target)
        warnings.warn(f"{target} has the wrong SHA-256; downloading it again", stacklevel=2)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with time_limit():
            torch.hub.download_url_to_file(url, str(target), hash_prefix=expected)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"can't download {url} ({error}); save the file as {target}, or set MODEL.BACKBONE.PATH to other weights"
        ) from error
    return str(target)


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """A context manager in which a connection fails if it receives nothing for `TIMEOUT` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
