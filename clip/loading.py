"""Finds the weights of a CLIP by name or path, checks them, and builds the model.

Trainers and tools call `load_clip`. Code in a weights file is never run, except in OpenAI's official archives.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from clip import mini
from clip.download import MODELS, TIMEOUT, WeightsError, download, is_url, sha256, time_limit
from clip.model import CLIP, from_state_dict
from clip.sizes import VOCABULARY, Sizes
from clip.weights import Weights, plain_file, read_weights

__all__ = ["MODELS", "TIMEOUT", "Weights", "WeightsError", "download", "load_clip", "local_file", "read_weights"]


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
    with _naming(path or name):
        state, sizes = _weights_and_sizes(name, path, root)
        state, trained_rows = mini.unpacked(state)
        model = from_state_dict(state, sizes)
        if model.vocab_size < VOCABULARY:
            raise ValueError(f"its vocabulary has {model.vocab_size} tokens, fewer than CLIP's {VOCABULARY}")
    model.trained_rows = trained_rows
    return model


@contextlib.contextmanager
def _naming(source: str | Path) -> Iterator[None]:
    """A context manager that adds `source` to the messages of errors."""
    try:
        yield
    except KeyError as error:
        raise WeightsError(f"{source} isn't a CLIP in a known layout: the weight {error} is missing") from error
    except RuntimeError as error:
        raise WeightsError(f"can't load {source}: {' '.join(str(error).split())[:500]}") from error
    except ValueError as error:
        raise ValueError(f"can't load {source}: {error}") from error


def local_file(source: str, root: str | Path | None = None) -> str:
    """Return a file for an entry of `MODELS`. `torch.load` can read it, and `clip.build_model` builds the model.

    Args:
        source: a URL, which is downloaded; or a local path, whose weights are converted.
        root: folder for the file; None: ~/.cache/clip.

    Raises:
        WeightsError: a download failed; or the weights can't be read; or `build_model` would build another model.
        ValueError: our image and text towers don't support the model.
    """
    if is_url(source):
        return download(source, root)
    with _naming(source):
        state, sizes = _weights_and_sizes("", source, root)
        state, _ = mini.unpacked(state)
        return plain_file(Path(source), state, sizes, root)


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
        if name and name not in MODELS:
            return _openclip(name, local)
        return read_weights(local), None
    if name in MODELS:
        if not is_url(MODELS[name]):
            return _weights_and_sizes("", MODELS[name], root)
        return read_weights(download(MODELS[name], root)), None
    if name.startswith("hf-hub:"):
        return _from_folder(_from_hub(name.removeprefix("hf-hub:"), root))
    return _openclip(name, None, root)


def _from_hub(name: str, root: str | Path | None) -> Path:
    """Download a model from the Hugging Face hub, and return its folder."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*config.json", "*.safetensors"], cache_dir=root))
    except Exception as error:  # the libraries below have unrelated error types
        raise WeightsError(f"can't download {name}: {' '.join(str(error).split())[:300]}") from error


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
        choices = f"tags of {architecture}: {', '.join(tags)}" if tags else f"names: {', '.join(MODELS)}"
        raise ValueError(
            f"unknown backbone (MODEL.BACKBONE.NAME). Known {choices}. Or give an OpenCLIP model as ARCHITECTURE:TAG"
        )
    quick_gelu = (pretrained or model_cfg).get("quick_gelu", False)
    # `openclip_sizes` raises ValueError if the model isn't supported. Call it first, to avoid a useless download.
    sizes = convert.openclip_sizes(model_cfg, pretrained, quick_gelu)
    if path is None:
        try:
            with time_limit():
                path = Path(download_pretrained(pretrained, cache_dir=root and str(root)))
        except Exception as error:  # the libraries below have unrelated error types
            raise WeightsError(f"can't download {name}: {' '.join(str(error).split())[:300]}") from error
        _check_hub_file(path)
    return convert.openclip_weights(read_weights(path)), sizes


def _from_folder(folder: Path) -> tuple[Weights, Sizes]:
    """Return weights and sizes of a Hugging Face or OpenCLIP model, read from its config and safetensors files."""
    from clip import configs, convert

    openclip_config = folder / "open_clip_config.json"
    if openclip_config.is_file():
        model_cfg, preprocess = configs.read_openclip(openclip_config)
        sizes = convert.openclip_sizes(model_cfg, preprocess, bool(model_cfg.get("quick_gelu", False)))
        return convert.openclip_weights(_safetensors(folder, "open_clip_model.safetensors")), sizes
    if (folder / "config.json").is_file():
        sizes = configs.huggingface_sizes(folder / "config.json", folder / "preprocessor_config.json")
        return convert.huggingface_weights(_safetensors(folder, "model.safetensors")), sizes
    raise ValueError(f"{folder} has neither config.json nor open_clip_config.json")


def _safetensors(folder: Path, name: str) -> Weights:
    if not (folder / name).is_file():
        raise ValueError(f"{folder} has no file {name}")
    _check_hub_file(folder / name)
    return read_weights(folder / name)


def _check_hub_file(path: Path) -> None:
    """Check a file in the cache of the Hugging Face hub.

    There, the path is a link to a file that is named after the SHA-256 of its content. Files with other names aren't
    checked.

    Raises:
        WeightsError: the SHA-256 is wrong.
    """
    expected = path.resolve().name
    is_hash = len(expected) == 64 and set(expected) <= set("0123456789abcdef")
    if is_hash and sha256(path) != expected:
        raise WeightsError(f"{path} is damaged (its SHA-256 isn't {expected}); delete the file and run again")
