"""Finds the weights of a CLIP by name or path, checks them, and builds the model.

Trainers and tools call `load_clip`. Code in a weights file is never run.
"""

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from clip import mini
from clip.model import CLIP, from_state_dict
from clip.sizes import Sizes

_OPENAI = "https://openaipublic.azureedge.net/clip/models"
#: Mapping of the names of OpenAI's models to their URLs. The last folder in the URL is the file's SHA-256.
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
}


#: Mapping of a weight's name to its tensor.
Weights = Mapping[str, torch.Tensor]


class WeightsError(RuntimeError):
    """Raised if weights can't be downloaded or read. The message is a single line."""


def download(url: str, root: str | Path | None = None) -> str:
    """Download the file at `url` to the folder `root` and return its path. An existing file isn't downloaded again.

    The last folder in the URL is the file's SHA-256. An existing file with the wrong SHA-256 is replaced.

    Args:
        root: target folder; None: ~/.cache/clip.

    Raises:
        WeightsError: the download fails; or the downloaded file has the wrong SHA-256; or the target exists, but isn't
            a regular file.
    """
    folder = Path(root or "~/.cache/clip").expanduser()
    expected, name = url.split("/")[-2:]
    target = folder / name
    if target.exists() and not target.is_file():
        raise WeightsError(f"{target} exists and is not a regular file")
    if target.is_file():
        if _sha256(target) == expected:
            return str(target)
        warnings.warn(f"{target} has the wrong SHA-256; downloading it again", stacklevel=2)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(target), hash_prefix=expected)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"can't download {url} ({error}); save the file as {target}, or set MODEL.BACKBONE.PATH to other weights"
        ) from error
    return str(target)


def load_clip(name: str = "", path: str | Path = "", root: str | Path | None = None) -> CLIP:
    """Load a frozen float32 CLIP on the CPU, in eval mode.

    Args:
        name: name of an OpenAI model ("ViT-B/16"); or "ViT-Mini/8", this project's small CLIP; or an OpenCLIP model as
            ARCHITECTURE:TAG ("ViT-B-16:laion2b_s34b_b88k"); or a model on the Hugging Face hub
            ("hf-hub:openai/clip-vit-base-patch16").
        path: file or folder with local weights, which are used instead of the weights of `name`; "": load the weights
            of `name`. A folder must contain a Hugging Face or OpenCLIP model. A file must contain weights with
            OpenAI's parameter names (as a TorchScript archive, state dict or safetensors) or an OpenCLIP model. For an
            OpenCLIP file, `name` must be the architecture ("ViT-B-16"), because the number of heads and the activation
            can't be inferred from weights.
        root: folder for downloads; None: ~/.cache/clip for OpenAI's models, and the default folder of the Hugging Face
            or OpenCLIP library for other models.

    Raises:
        ValueError: the name is unknown, or our image and text towers don't support the model.
        FileNotFoundError: the path doesn't exist.
        WeightsError: a download failed, or the file doesn't contain a CLIP.
    """
    source = str(path or name)
    if name == mini.NAME and not path:
        state, known = mini.load()
        model = from_state_dict(state)
        model.trained_rows = known
        return model
    try:
        return from_state_dict(*_weights_and_sizes(name, path, root))
    except KeyError as error:
        raise WeightsError(f"{source} isn't a CLIP in a known layout: the weight {error} is missing") from error
    except RuntimeError as error:
        raise WeightsError(f"can't load {source}: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ValueError(f"can't load {source}: {error}") from error


def _weights_and_sizes(name: str, path: str | Path, root: str | Path | None) -> tuple[Weights, Sizes | None]:
    """Return weights with OpenAI's parameter names, and the model's sizes.

    The sizes are None if there is no config. The caller must then infer the sizes from the weights.
    """
    if path:
        local = Path(path).expanduser()
        if not local.exists():
            raise FileNotFoundError(f"{local} doesn't exist (MODEL.BACKBONE.PATH)")
        if local.is_dir():
            return _from_folder(local)
        if name and name not in (*MODELS, mini.NAME):
            return _openclip(name, local)
        return read_weights(local), None
    if name in MODELS:
        return read_weights(download(MODELS[name], root)), None
    if name.startswith("hf-hub:"):
        from huggingface_hub import snapshot_download

        patterns = ["*config.json", "*.safetensors"]
        return _from_folder(
            Path(snapshot_download(name.removeprefix("hf-hub:"), allow_patterns=patterns, cache_dir=root))
        )
    return _openclip(name, None, root)


def _openclip(name: str, path: Path | None, root: str | Path | None = None) -> tuple[Weights, Sizes]:
    """Return weights and sizes of an OpenCLIP model.

    Args:
        name: "architecture:tag". If `path` is given, the tag may be left out.
        path: local file with the weights; None: download them.
        root: folder for downloads.
    """
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    from clip import convert

    architecture, _, tag = name.partition(":")
    model_cfg = open_clip.get_model_config(architecture) if architecture in open_clip.list_models() else None
    pretrained = get_pretrained_cfg(architecture, tag)
    if model_cfg is None or (path is None and not pretrained):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        choices = f"tags of {architecture}: {', '.join(tags)}" if tags else f"names: {', '.join((*MODELS, mini.NAME))}"
        raise ValueError(
            f"unknown backbone (MODEL.BACKBONE.NAME). Known {choices}. Or give an OpenCLIP model as ARCHITECTURE:TAG"
        )
    quick_gelu = (pretrained or model_cfg).get("quick_gelu", False)
    # `openclip_sizes` raises ValueError if the model isn't supported. Call it first, to avoid a useless download.
    sizes = convert.openclip_sizes(model_cfg, pretrained, quick_gelu)
    file = path or Path(_checked_hub_file(download_pretrained(pretrained, cache_dir=root and str(root))))
    return convert.openclip_weights(read_weights(file)), sizes


def _from_folder(folder: Path) -> tuple[Weights, Sizes]:
    """Return weights and sizes of a Hugging Face or OpenCLIP model, read from its config and safetensors files."""
    from clip import convert

    openclip_config = folder / "open_clip_config.json"
    if openclip_config.is_file():
        config = json.loads(openclip_config.read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
        sizes = convert.openclip_sizes(model_cfg, config.get("preprocess_cfg", {}), model_cfg.get("quick_gelu", False))
        return convert.openclip_weights(_safetensors(folder, "open_clip_model.safetensors")), sizes
    if (folder / "config.json").is_file():
        preprocessor = folder / "preprocessor_config.json"
        preprocess = json.loads(preprocessor.read_text(encoding="utf-8")) if preprocessor.is_file() else {}
        sizes = convert.huggingface_sizes(json.loads((folder / "config.json").read_text(encoding="utf-8")), preprocess)
        return convert.huggingface_weights(_safetensors(folder, "model.safetensors")), sizes
    raise ValueError(f"{folder} has neither config.json nor open_clip_config.json")


def _safetensors(folder: Path, name: str) -> Weights:
    if not (folder / name).is_file():
        raise ValueError(f"{folder} has no file {name}")
    return read_weights(_checked_hub_file(folder / name))


def _checked_hub_file(path: str | Path) -> str | Path:
    """Return `path` if the file is intact.

    In the cache of the Hugging Face hub, the path is a link to a file that is named after the SHA-256 of its content.
    Files with other names aren't checked.

    Raises:
        WeightsError: the SHA-256 is wrong.
    """
    expected = Path(path).resolve().name
    is_hash = len(expected) == 64 and set(expected) <= set("0123456789abcdef")
    if is_hash and _sha256(Path(path)) != expected:
        raise WeightsError(f"{path} is damaged (its SHA-256 isn't {expected}); delete the file and run again")
    return path


def read_weights(path: str | Path) -> Weights:
    """Read a mapping of names to tensors from a TorchScript archive, a safetensors file or a state dict.

    Code in the file isn't run.

    Raises:
        WeightsError: the file can't be read, or has another format.
    """
    try:
        if str(path).endswith(".safetensors"):
            return load_file(path)
        if _is_torchscript(path):
            return torch.jit.load(str(path), map_location="cpu").state_dict()
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"can't read the weights {path}: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"can't read the weights {path}: its content isn't a dict of tensors")
    return state


def _is_torchscript(path: str | Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
