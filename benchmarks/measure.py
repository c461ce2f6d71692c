"""What the benchmarks share: models of real sizes with random weights, the naive way, timing, needed work."""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from open_clip import IMAGENET_CLASSNAMES

import trainers.cocoop
from clip.model import CLIP, convert_weights
from clip.sizes import Sizes
from clip.vision import VisionTransformer
from dassl.config import merge_file, merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from trainers.base import Method, PromptTrainer
from trainers.common.options import default_config, default_config_file

load_plugins("trainers")
_TEXT: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "transformer_layers": 12}
_BASE = _TEXT | {"transformer_width": 512, "transformer_heads": 8, "transformer_mlp": 2048}
_LARGE = _TEXT | {"transformer_width": 768, "transformer_heads": 12, "transformer_mlp": 3072}
SIZES = {
    "vit_b16": Sizes(512, 224, 12, 768, 16, 12, 3072, **_BASE),
    "vit_b32": Sizes(512, 224, 12, 768, 32, 12, 3072, **_BASE),
    "vit_l14": Sizes(768, 224, 24, 1024, 14, 16, 4096, **_LARGE),
    "rn50": Sizes(1024, 224, (3, 4, 6, 3), 64, 0, 32, 0, **_BASE),
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def trainer_names() -> list[str]:
    """All prompt trainers."""
    return [n for n in TRAINER_REGISTRY.registered_names() if issubclass(TRAINER_REGISTRY.get(n), PromptTrainer)]


def class_names(count: int) -> list[str]:
    """ImageNet's class names, and beyond 1,000 made-up ones of the same lengths."""
    names = list(IMAGENET_CLASSNAMES)
    return [names[i] if i < 1000 else f"{names[i % 1000]} {names[(i * 7) % 997].split()[0]}" for i in range(count)]


def parser(description: str, baselines: Sequence[str] = ("naive",), **defaults: Any) -> argparse.ArgumentParser:
    """The arguments of all benchmarks."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--trainer", default="MaPLe", choices=trainer_names())
    made.add_argument("--classes", type=int, default=100)
    made.add_argument("--batch", type=int, default=4)
    made.add_argument("--backbone", default="vit_b16", choices=SIZES)
    made.add_argument("--prec", default="fp32", choices=TYPES)
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--baseline", choices=baselines, help="also do it so, in turn; naive: as the original does")
    made.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config options of the trainer")
    made.set_defaults(**defaults)
    return made


def backbone(name: str, prec: str) -> CLIP:
    """A frozen CLIP of that backbone's sizes, with random weights."""
    torch.manual_seed(0)
    model = CLIP(SIZES[name]).requires_grad_(False).eval()
    if prec != "fp32":
        convert_weights(model, TYPES[prec])
    return model


def configured(trainer: str, opts: list[str]) -> Any:
    """The trainer's default config, and options."""
    cfg = default_config()
    merge_file(cfg, default_config_file(TRAINER_REGISTRY.get(trainer)))
    merge_words(cfg, opts)
    return cfg


def prompted(trainer: str, model: CLIP, classes: int, opts: list[str]) -> Method:
    """The method around `model`, for so many classes."""
    data = SimpleNamespace(classnames=class_names(classes), template="a photo of a {}.")
    return TRAINER_REGISTRY.get(trainer).make_model(configured(trainer, opts), model, data)


def images(model: CLIP, batch: int) -> torch.Tensor:
    """Noise, (batch, 3, resolution, resolution)."""
    side = model.sizes.image_resolution
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


@contextlib.contextmanager
def naive(method: Method) -> Iterator[None]:
    """Inside, a method works as its original: whole sequences of 77 tokens for every class (in CoCoOp's tests image by
    image), through `nn.MultiheadAttention`; all tokens at the last layer; no cached text features."""
    towers = [method.clip.transformer]
    if isinstance(method.clip.visual, VisionTransformer):
        towers.append(method.clip.visual.transformer)
    hooks = [tower.register_forward_hook(lambda *_: None) for tower in towers]  # whoever hooks gets the plain way
    at_once, chunk = trainers.cocoop._PROMPTS_AT_ONCE, method.clip.text_chunk
    trainers.cocoop._PROMPTS_AT_ONCE, method.clip.text_chunk = 1, 0
    method.forget()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        trainers.cocoop._PROMPTS_AT_ONCE, method.clip.text_chunk = at_once, chunk
        method.forget()


def interleaved(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each job, done in turn, after a round that doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(of) for name, of in times.items()}


def products(prec: str, side: int = 2048, count: int = 5) -> tuple[Callable[[], None], int]:
    """A job of so many large matrix products, and its floating-point operations: they give the machine's rate, in turn
    with what is compared with it."""
    a, b = (torch.randn(side, side).to(TYPES[prec]) for _ in range(2))

    def job() -> None:
        for _ in range(count):
            a @ b

    return job, count * 2 * side**3


def rate(prec: str) -> float:
    """FLOPs a second of `products`."""
    job, operations = products(prec)
    return operations / interleaved({"products": job}, 5)["products"]


def report(
    seconds: float,
    baseline_seconds: float | None,
    needed_flops: int | None,
    peak_flops: float,
    ratio: float | None = None,
    peak_bytes: int | None = None,
) -> None:
    """Print the figures as one line of JSON, the last of a benchmark; what was not measured is null.

    `ratio` is that of the times unless given; `share` is that of the needed operations' rate to `peak_flops`.
    """
    found = {
        "seconds": seconds,
        "baseline_seconds": baseline_seconds,
        "ratio": ratio or (baseline_seconds and baseline_seconds / seconds),
        "peak_bytes": peak_bytes,
        "needed_flops": needed_flops,
        "peak_flops": peak_flops,
        "share": needed_flops and needed_flops / seconds / peak_flops,
    }
    print(json.dumps(found))
