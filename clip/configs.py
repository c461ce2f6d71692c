"""Typed descriptions of the config files in a model's folder, from Hugging Face and OpenCLIP.

`clip.loading` calls `read_openclip` and `huggingface_sizes`. The description of a format checks types and ranges, so
that a wrong config is one error that names the field.
"""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from clip.sizes import MAX_LAYERS, MAX_SIZE, OPENAI_MEAN, OPENAI_STD, VOCABULARY, Sizes

Size = Annotated[int, Meta(ge=1, le=MAX_SIZE)]
Layers = Annotated[int, Meta(ge=1, le=MAX_LAYERS)]
Channel = Annotated[float, Meta(gt=0, le=1)]
Channels = tuple[Channel, Channel, Channel]
#: A ResNet's numbers of blocks; height and width. They aren't tuples, because msgspec 0.22 crashes in Python's garbage
#: collector if a type is a number with a range or a tuple of fixed length.
Stages = Annotated[list[Layers], Meta(min_length=4, max_length=4)]
HeightWidth = Annotated[list[Size], Meta(min_length=2, max_length=2)]
T = TypeVar("T")


class HuggingFaceVision(Struct):
    """The image tower in a Hugging Face config. The defaults are those of `CLIPVisionConfig`."""

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Layers = 12
    num_attention_heads: Size = 12
    image_size: Size = 224
    patch_size: Size = 32
    hidden_act: str = "quick_gelu"


class HuggingFaceText(Struct):
    """The text tower in a Hugging Face config. The defaults are those of `CLIPTextConfig`."""

    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_hidden_layers: Layers = 12
    num_attention_heads: Size = 8
    max_position_embeddings: Size = 77
    vocab_size: Size = VOCABULARY
    hidden_act: str = "quick_gelu"


class HuggingFaceKind(Struct):
    """The field of a Hugging Face config that names the model's class."""

    model_type: str = ""


class HuggingFaceConfig(HuggingFaceKind):
    """config.json of a Hugging Face `CLIPModel`."""

    vision_config: HuggingFaceVision = msgspec.field(default_factory=HuggingFaceVision)
    text_config: HuggingFaceText = msgspec.field(default_factory=HuggingFaceText)
    projection_dim: Size = 512


class HuggingFacePreprocess(Struct):
    """preprocessor_config.json."""

    image_mean: Channels = OPENAI_MEAN
    image_std: Channels = OPENAI_STD


class Preprocess(Struct):
    """Normalisation of the images in OpenCLIP's configs."""

    mean: Channels | None = None
    std: Channels | None = None


class OpenCLIPFile(Struct):
    """open_clip_config.json."""

    model_cfg: dict[str, object]
    preprocess_cfg: dict[str, object] = {}


class OpenCLIPVision(Struct):
    """The image tower in OpenCLIP's configs. The defaults are those of `CLIPVisionCfg`."""

    layers: Layers | Stages = 12
    width: Size = 768
    head_width: Size = 64
    mlp_ratio: Annotated[float, Meta(gt=0, le=100)] = 4.0
    patch_size: Size | None = 16
    image_size: Size | HeightWidth = 224


class OpenCLIPText(Struct):
    """The text tower in OpenCLIP's configs. The defaults are those of `CLIPTextCfg`."""

    context_length: Size = 77
    vocab_size: Size = VOCABULARY
    width: Size = 512
    heads: Size = 8
    layers: Layers = 12
    mlp_ratio: Annotated[float, Meta(gt=0, le=100)] = 4.0


class OpenCLIPModel(Struct):
    """A model in OpenCLIP's configs. Each tower has more fields, which `clip.convert` compares with their defaults."""

    embed_dim: Size
    vision_cfg: dict[str, object]
    text_cfg: dict[str, object]


def read_openclip(path: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Return the model's config and the images' normalisation from a file open_clip_config.json. Raises ValueError."""
    content = _read(path, OpenCLIPFile)
    return content.model_cfg, content.preprocess_cfg


def huggingface_sizes(path: Path, preprocessor: Path) -> Sizes:
    """Return the sizes of a Hugging Face `CLIPModel`.

    Args:
        path: the file config.json.
        preprocessor: the file preprocessor_config.json, which may be missing.

    Raises:
        ValueError: a file is wrong; or the model isn't a `CLIPModel`; or our towers don't support its activation or
            vocabulary.
    """
    kind = _read(path, HuggingFaceKind).model_type
    if kind != "clip":
        raise ValueError(f"its config.json has model_type {kind!r}: only 'clip' is supported")
    config = _read(path, HuggingFaceConfig)
    vision, text = config.vision_config, config.text_config
    activations = {vision.hidden_act, text.hidden_act}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise ValueError(
            f"its towers have the activations {sorted(activations)}, but both need the same: quick_gelu or gelu"
        )
    if text.vocab_size != VOCABULARY:
        raise ValueError(
            f"its vocabulary has {text.vocab_size} tokens: only CLIP's vocabulary ({VOCABULARY} tokens) is supported"
        )
    images = _read(preprocessor, HuggingFacePreprocess) if preprocessor.is_file() else HuggingFacePreprocess()
    return Sizes(
        embed_dim=config.projection_dim,
        image_resolution=vision.image_size,
        vision_layers=vision.num_hidden_layers,
        vision_width=vision.hidden_size,
        vision_patch_size=vision.patch_size,
        vision_heads=vision.num_attention_heads,
        vision_mlp=vision.intermediate_size,
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        transformer_width=text.hidden_size,
        transformer_heads=text.num_attention_heads,
        transformer_layers=text.num_hidden_layers,
        transformer_mlp=text.intermediate_size,
        activation=activations.pop(),
        mean=images.image_mean,
        std=images.image_std,
    )


def _read(path: Path, cls: type[T]) -> T:
    """Return the content of a JSON file as an object of `cls`. Raises ValueError with the name of the wrong field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=cls)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def checked(value: object, cls: type[T], where: str) -> T:
    """Return a dict as an object of `cls`. Raises ValueError with the name of the wrong field.

    Args:
        where: name of the dict in the message.
    """
    try:
        return msgspec.convert(value, cls)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{where}: {error}") from error
