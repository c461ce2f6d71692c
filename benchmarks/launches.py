"""Counts how many kernels a training step and a test batch would launch on a GPU. This needs no GPU.

    python benchmarks/launches.py [--trainer MaPLe CoOp] [--classes 10 100 500 1000]

The benchmark runs a step on the CPU, the way it runs on a GPU, and counts its ATen calls: forward pass, backward pass
and a fused optimiser step. Views and memory allocations aren't counted, because they launch nothing. Attention counts
as one call forward and one call backward. On a GPU a few calls launch more than one kernel, so the counts are a lower
bound.

The model has the layers, heads and tokens of the backbone, but narrow heads, because widths don't change the counts.
The column `naive` is the original code's computation. It doesn't depend on the number of classes.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import measure
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from clip import attention
from clip.model import CLIP
from clip.sizes import Sizes
from trainers.base import Method

#: Calls that aren't counted although they aren't marked as views. They allocate memory, or are views in disguise.
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
_HEAD_WIDTH = 8


class Launches(TypedDict):
    """The counts of one method."""

    step: int  # training step
    naive: int  # training step of the original code
    evaluation: int  # test batch, with cached text features


class CallCounter(TorchDispatchMode):
    """Counts the ATen calls that are made inside this context, by name. Views and allocations aren't counted."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        name = func.overloadpacket.__name__
        if func.namespace == "aten" and not func.is_view and name not in ALLOCATIONS:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> torch.Tensor:
    """Compute `F.scaled_dot_product_attention` in one ATen call, whose backward pass is also one call."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(query, key, value, dropout_p, is_causal, attn_mask=attn_mask)[0]


@contextlib.contextmanager
def as_on_a_gpu(model: CLIP) -> Iterator[None]:
    """Inside this context, `model` makes the same calls on the CPU as on a GPU."""
    with (
        mock.patch.object(model, "text_attention", "padded"),
        mock.patch.object(attention, "prefers_matrix_products", return_value=False),
        mock.patch.object(F, "scaled_dot_product_attention", _attention),
    ):
        yield


def count(job: Callable[[], object]) -> Counter[str]:
    """Run a job twice. Return the calls of the second run, because the first run makes tensors that are kept."""
    job()
    with CallCounter() as counter:
        job()
    return counter.calls


def narrow(sizes: Sizes) -> Sizes:
    """Return the sizes of a CLIP with the same layers, heads and tokens, but with narrow heads."""
    text_width, vision_width = _HEAD_WIDTH * sizes.transformer_heads, _HEAD_WIDTH * sizes.vision_heads
    return dataclasses.replace(
        sizes,
        embed_dim=text_width,
        vision_width=vision_width,
        vision_mlp=4 * vision_width,
        transformer_width=text_width,
        transformer_mlp=4 * text_width,
    )


def step_calls(method: Method, classes: int, batch: int) -> Counter[str]:
    """Return the calls of a training step: forward pass, backward pass and fused optimiser step."""
    forward_backward = measure.training_step(method, measure.images(method.clip, batch), classes)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4, fused=True)

    def step() -> None:
        forward_backward()
        optimizer.step()

    return count(step)


def evaluation_calls(method: Method, batch: int) -> Counter[str]:
    """Return the calls of a test batch. If the text features don't depend on the image, they are cached before."""
    images = measure.images(method.clip, batch)
    with torch.no_grad():
        return count(lambda: method(images))


def launches_of(trainer: str, model: CLIP, classes: list[int], batch: int, by_call: bool) -> dict[int, Launches]:
    """Count the launches of a trainer's method for each number of classes, and print a line for each.

    Args:
        by_call: if True, the ATen calls of the training step are printed too.
    """
    found: dict[int, Launches] = {}
    naive = 0
    for n_classes in classes:
        method = measure.build_method(trainer, model, n_classes, [])
        with as_on_a_gpu(model):
            if not naive:
                with measure.naive(method):
                    naive = step_calls(method, n_classes, batch).total()
            step, evaluation = step_calls(method, n_classes, batch), evaluation_calls(method, batch)
        found[n_classes] = {"step": step.total(), "naive": naive, "evaluation": evaluation.total()}
        print(f"{trainer:<18}{n_classes:>8}{step.total():>8}{naive:>8}{evaluation.total():>12}")
        if by_call:
            print("    " + ", ".join(f"{number} {name}" for name, number in step.most_common()))
    return found


def main(argv: list[str]) -> int:
    names = measure.trained_in_steps()
    backbones = [name for name, sizes in measure.SIZES.items() if sizes.vision_patch_size]  # without ResNets
    parser = argparse.ArgumentParser(description="Count the kernel launches of a training step and of a test batch.")
    parser.add_argument("--trainer", nargs="+", default=names, choices=names)
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 100, 500, 1000], help="numbers of classes")
    parser.add_argument("--batch", type=int, default=4, help="number of images in a batch")
    parser.add_argument("--backbone", default="vit_b16", choices=backbones)
    parser.add_argument("--prec", default="bf16", choices=measure.TYPES, help="precision of the frozen weights")
    parser.add_argument("--by-call", action="store_true", help="print how often a step makes each ATen call")
    args = parser.parse_args(argv)
    model = measure.random_clip(narrow(measure.SIZES[args.backbone]), args.prec)
    print(f"Launches, {args.backbone}, batch {args.batch}, {args.prec}")
    print(f"{'trainer':<18}{'classes':>8}{'step':>8}{'naive':>8}{'evaluation':>12}")
    found = {name: launches_of(name, model, args.classes, args.batch, args.by_call) for name in args.trainer}
    print(json.dumps({"launches": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
