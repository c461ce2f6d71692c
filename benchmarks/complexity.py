"""The papers' complexity table: for every trainer, learnable parameters, GFLOPs a test image, images a second.

    python benchmarks/complexity.py [--trainers MaPLe CoOp ...] [--backbone vit_b16] [--classes 100] [--batch 4]

Weights are random and of the backbone's sizes; class names are ImageNet's. GFLOPs are those of a test image with the
text features, which are made once a test, left out, and in the column beside it with all of them (as the papers count).
Images a second are on this machine, in float32, the median of --repeats steps.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from open_clip import IMAGENET_CLASSNAMES
from torch.utils.flop_counter import FlopCounterMode

from clip.model import CLIP
from clip.sizes import Sizes
from dassl.config import merge_file
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, count_num_param, load_plugins
from trainers.base import PromptTrainer
from trainers.nodes import default_config, default_config_file

_TEXT: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "transformer_layers": 12}
_BASE = _TEXT | {"transformer_width": 512, "transformer_heads": 8, "transformer_mlp": 2048}
_LARGE = _TEXT | {"transformer_width": 768, "transformer_heads": 12, "transformer_mlp": 3072}
SIZES = {
    "vit_b16": Sizes(512, 224, 12, 768, 16, 12, 3072, **_BASE),
    "vit_b32": Sizes(512, 224, 12, 768, 32, 12, 3072, **_BASE),
    "vit_l14": Sizes(768, 224, 24, 1024, 14, 16, 4096, **_LARGE),
    "rn50": Sizes(1024, 224, (3, 4, 6, 3), 64, 0, 32, 0, **_BASE),
}


def configure(trainer: str) -> Any:
    """The trainer's default config."""
    cfg = default_config()
    merge_file(cfg, default_config_file(TRAINER_REGISTRY.get(trainer)))
    return cfg


def seconds(step: Any, repeats: int) -> float:
    """Median time of `step()`, after one that doesn't count."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def flops(step: Any) -> float:
    """GFLOPs of `step()`: two for a multiplication and an addition, matrix products and convolutions only."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def measure(trainer: str, model: CLIP, classes: int, batch: int, repeats: int) -> dict[str, Any]:
    """A row of the table."""
    kind = TRAINER_REGISTRY.get(trainer)
    data = SimpleNamespace(classnames=IMAGENET_CLASSNAMES[:classes], template="a photo of a {}.")
    prompted = kind.make_model(configure(trainer), model, data)
    size = model.visual.input_resolution
    image, images = torch.randn(1, 3, size, size), torch.randn(batch, 3, size, size)
    labels = torch.arange(batch) % classes
    row: dict[str, Any] = {"trainer": trainer, "parameters": count_num_param(prompted)}
    with torch.no_grad():
        row["gflops_all"] = flops(lambda: prompted(image))
        row["gflops"] = flops(lambda: prompted(image))  # text features are there now
        row["test_images_per_second"] = batch / seconds(lambda: prompted(images), repeats)
    row["train_images_per_second"] = None
    if row["parameters"] and trainer != "LinearProbe":

        def step() -> None:
            prompted.zero_grad()
            kind.loss(prompted(images), labels).backward()

        row["train_images_per_second"] = batch / seconds(step, repeats)
    return row


def main(argv: list[str]) -> int:
    load_plugins("trainers")
    names = [n for n in TRAINER_REGISTRY.registered_names() if issubclass(TRAINER_REGISTRY.get(n), PromptTrainer)]
    parser = argparse.ArgumentParser(description="Complexity table.")
    parser.add_argument("--trainers", nargs="+", default=names, choices=names)
    parser.add_argument("--backbone", default="vit_b16", choices=SIZES)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    model = CLIP(SIZES[args.backbone]).requires_grad_(False).eval()
    print(f"{args.backbone}, {args.classes} classes, batch {args.batch}, {torch.get_num_threads()} threads, float32")
    print(f"{'trainer':<18}{'parameters':>12}{'GFLOPs':>9}{'+ text':>9}{'test/s':>9}{'train/s':>9}")
    rows = []
    for name in args.trainers:
        try:
            row = measure(name, model, args.classes, args.batch, args.repeats)
        except InputError as error:
            print(f"{name:<18}{error}")
            continue
        rows.append(row)
        train_speed = f"{row['train_images_per_second']:.2f}" if row["train_images_per_second"] else "-"
        print(
            f"{name:<18}{row['parameters']:>12,}{row['gflops']:>9.1f}{row['gflops_all']:>9.1f}"
            f"{row['test_images_per_second']:>9.2f}{train_speed:>9}"
        )
    print(json.dumps({"backbone": args.backbone, "classes": args.classes, "batch": args.batch, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
