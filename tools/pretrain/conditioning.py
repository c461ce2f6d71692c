"""Measures how much rounding changes what ViT-Mini/8 computes: python -m tools.pretrain.conditioning.

A CLIP is well conditioned if lower precision changes its features little. The script compares float16 and bfloat16
weights, autocast, and another number of threads with float32. It uses all class names and the test images of the five
categories of emoji. The last line is a JSON object with all figures. The exit code is 1 if a figure misses its target.
"""

import contextlib
import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import train
from clip.loading import load_clip
from clip.mini import NAME
from clip.model import CLIP
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from tools.pretrain.captions import CATEGORY_NOUNS
from trainers.common.tokens import tokenize_classes

TEMPLATE = "a photo of a {}."
#: Targets: the maximum of each figure.
DEVIATION = 20.0  # standard deviation of the residual stream
RELATIVE_ERROR = {"fp16": 0.003, "bf16": 0.02}  # of the features of a tower
ACCURACY_CHANGE = {"fp16": 0.3, "bf16": 1.0}  # of the zero-shot accuracy, in percentage points
THREADS_ERROR = 1e-4  # relative difference of the logits on one and two threads


@dataclass
class Images:
    """The test images of a category, (N, 3, 48, 48), their labels (N,), and the token ids of the class names."""

    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor  # (n_classes, context length)


def read_images(clip: CLIP, category: str) -> Images:
    """Read the test images of a category. They are rendered on first use."""
    arguments = ["--trainer", "ZeroshotCLIP", "--dataset-config-file", f"configs/datasets/emoji_{category}.yaml"]
    cfg = train.build_config(train.parse_arguments(arguments))
    dataset = build_dataset(cfg)
    transform = build_transform(cfg, is_train=False)
    loader: DataLoader = build_data_loader(cfg, data_source=dataset.test, batch_size=500, tfm=transform, is_train=False)
    batches = list(loader)
    images, labels = (torch.cat([batch[key] for batch in batches]) for key in ("img", "label"))
    return Images(images, labels, tokenize_classes(clip, TEMPLATE, dataset.classnames))


@contextlib.contextmanager
def precision(clip: CLIP, name: str) -> Iterator[CLIP]:
    """Yield the CLIP in a precision: fp32, fp16 or bf16 (weights and activations), or amp (autocast in bfloat16)."""
    if name == "amp":
        with torch.autocast("cpu", torch.bfloat16):
            yield clip
    else:
        yield copy.deepcopy(clip).to({"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name])


def stream(clip: CLIP, tower: str, encode: Callable[[], torch.Tensor]) -> list[float]:
    """Return the standard deviation of the residual stream after each block of a tower ("image" or "text")."""
    found: list[float] = []
    transformer = clip.transformer if tower == "text" else clip.vision_transformer.transformer
    hooks = [
        block.register_forward_hook(lambda _, __, output: found.append(round(output.std().item(), 2)))
        for block in transformer.blocks()
    ]
    encode()
    for hook in hooks:
        hook.remove()
    return found


def relative(changed: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the norm of the difference divided by the norm of `exact`."""
    return ((changed - exact).norm() / exact.norm()).item()


def accuracy(image_features: torch.Tensor, text_features: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the zero-shot accuracy in per cent."""
    logits = F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).t()  # (N, n_classes)
    return 100 * (logits.argmax(1) == labels).float().mean().item()


@torch.no_grad()
def measure(clip: CLIP, categories: list[Images]) -> dict[str, dict]:
    """Return the figures: {figure: {tower or precision: value}}. Errors are relative, accuracies in per cent."""
    images = torch.cat([category.images for category in categories])
    ids = torch.cat([category.ids for category in categories])
    inputs: dict[str, Callable[[CLIP], torch.Tensor]] = {
        "image": lambda model: model.encode_image(images).float(),
        "text": lambda model: model.encode_text(ids).float(),
    }
    deviations = {tower: stream(clip, tower, lambda tower=tower: inputs[tower](clip)) for tower in inputs}  # type: ignore[misc]
    features: dict[str, dict[str, torch.Tensor]] = {}
    for name in ("fp32", "fp16", "bf16", "amp"):
        with precision(clip, name) as model:
            features[name] = {tower: encode(model) for tower, encode in inputs.items()}
    exact = features["fp32"]
    errors = {
        name: {tower: relative(found[tower], exact[tower]) for tower in found} for name, found in features.items()
    }
    means = {}
    for name, found in features.items():
        image_parts = found["image"].split([len(category.labels) for category in categories])
        text_parts = found["text"].split([len(category.ids) for category in categories])
        parts = zip(image_parts, text_parts, categories, strict=True)
        means[name] = sum(accuracy(image, text, part.labels) for image, text, part in parts) / len(categories)
    logits = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        normalised = [F.normalize(encode(clip), dim=-1) for encode in inputs.values()]
        logits[threads] = clip.logit_scale.exp() * normalised[0] @ normalised[1].t()  # (n_images, n_classes)
    return {
        "deviation": deviations,
        "relative_error": {name: errors[name] for name in ("fp16", "bf16", "amp")},
        "accuracy": means,
        "threads": {"logits": relative(logits[1], logits[2])},
    }


def missed(figures: dict[str, dict]) -> list[str]:
    """Return a line for each figure that misses its target."""
    lines = [
        f"{tower} tower: the stream's standard deviation is {max(values)}, the target is {DEVIATION}"
        for tower, values in figures["deviation"].items()
        if max(values) > DEVIATION
    ]
    for name, target in RELATIVE_ERROR.items():
        for tower, error in figures["relative_error"][name].items():
            if error > target:
                lines.append(f"{tower} tower in {name}: the relative error is {error:.2%}, the target is {target:.2%}")
    for name, target in ACCURACY_CHANGE.items():
        change = abs(figures["accuracy"][name] - figures["accuracy"]["fp32"])
        if change > target:
            lines.append(f"zero-shot in {name}: accuracy changes by {change:.2f} points, the target is {target}")
    if figures["threads"]["logits"] > THREADS_ERROR:
        lines.append(f"logits on 1 and 2 threads differ by {figures['threads']['logits']:.1e}")
    return lines


def main() -> int:
    clip = load_clip(NAME).eval()
    figures = measure(clip, [read_images(clip, category) for category in CATEGORY_NOUNS])
    lines = missed(figures)
    print("\n".join(lines) if lines else "all targets are met")
    print(json.dumps(figures))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
