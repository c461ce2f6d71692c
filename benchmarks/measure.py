"""Shared code of the benchmarks.

The code builds methods on a full-size CLIP with random weights, measures how long jobs take, and prints the results.
Every benchmark imports this module. Jobs that are compared take turns in the same process, because the speed of the
machine changes from minute to minute.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from unittest import mock

import torch
from open_clip import IMAGENET_CLASSNAMES
from yacs.config import CfgNode

from clip.model import CLIP, cast_towers
from clip.sizes import Sizes
from clip.vision import VisionTransformer
from dassl import distributed
from dassl.config import merge_file, merge_words
from dassl.data.datasets import DatasetBase
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from experiments.config import default_config_file
from trainers.base import Batch, Method, PromptTrainer
from trainers.common.options import default_config

load_plugins("trainers")
#: Sizes of the text towers: context length, vocabulary, width, heads, layers, MLP width.
_BASE = (77, 49408, 512, 8, 12, 2048)
_LARGE = (77, 49408, 768, 12, 12, 3072)
SIZES = {
    "vit_b16": Sizes(512, 224, 12, 768, 16, 12, 3072, *_BASE),
    "vit_b32": Sizes(512, 224, 12, 768, 32, 12, 3072, *_BASE),
    "vit_l14": Sizes(768, 224, 24, 1024, 14, 16, 4096, *_LARGE),
    "rn50": Sizes(1024, 224, (3, 4, 6, 3), 64, 0, 32, 0, *_BASE),
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Job = Callable[[], object]


class NamedClasses(DatasetBase):
    """A data set that has class names but no images."""

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self._classnames = list(names)


def trainer_names() -> list[str]:
    """Return the names of all prompt trainers."""
    return [n for n in TRAINER_REGISTRY.registered_names() if issubclass(TRAINER_REGISTRY.get(n), PromptTrainer)]


def add_trainers(parser: argparse.ArgumentParser) -> None:
    """Add the flag --trainers, which takes names of trainers, separated by spaces or by commas. The default is all."""
    names = "names of trainers, separated by spaces or commas (default: all)"
    parser.add_argument("--trainers", nargs="+", type=_known, default=[trainer_names()], metavar="NAME", help=names)


def chosen_trainers(args: argparse.Namespace) -> list[str]:
    """Return the names of the trainers in the flag --trainers."""
    return [name for names in args.trainers for name in names]


def _known(text: str) -> list[str]:
    chosen, known = text.split(","), trainer_names()
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown trainer {name}. There is: {', '.join(known)}")
    return chosen


def trained_in_steps() -> list[str]:
    """Return the names of the prompt trainers that learn something, in training steps."""
    classes = {name: TRAINER_REGISTRY.get(name) for name in trainer_names()}
    return [name for name, cls in classes.items() if cls.checkpoints and cls.method.has_loop]


def class_names(count: int) -> list[str]:
    """Return `count` class names. The first 1,000 are ImageNet's names. Each further name combines two of these."""
    names = list(IMAGENET_CLASSNAMES)
    return [names[i] if i < 1000 else f"{names[i % 1000]} {names[(i * 7) % 997].split()[0]}" for i in range(count)]


def parser(description: str, baselines: Sequence[str] = ("naive",), **defaults: object) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all benchmarks share. `defaults` replaces default values of arguments."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--trainer", default="MaPLe", choices=trainer_names())
    made.add_argument("--classes", type=int, default=100, help="number of classes")
    made.add_argument("--batch", type=int, default=4, help="number of images in a batch")
    made.add_argument("--backbone", default="vit_b16", choices=SIZES)
    made.add_argument("--prec", default="fp32", choices=TYPES, help="precision of the frozen weights")
    made.add_argument("--repeats", type=int, default=5, help="number of timed rounds (the median is used)")
    made.add_argument("--baseline", choices=baselines, help="baseline to time as well")
    made.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config options of the trainer")
    made.set_defaults(**defaults)
    return made


def backbone(name: str, prec: str) -> CLIP:
    """Return a frozen CLIP with random weights and the sizes of the backbone `name` (a key of SIZES)."""
    return random_clip(SIZES[name], prec)


def random_clip(sizes: Sizes, prec: str) -> CLIP:
    """Return a frozen CLIP with random weights."""
    torch.manual_seed(0)
    model = CLIP(sizes).requires_grad_(False).eval()
    if prec != "fp32":
        cast_towers(model, TYPES[prec])
    return model


def config_of(trainer: str, opts: Sequence[str]) -> CfgNode:
    """Return the trainer's default config, after overriding options with the KEY VALUE pairs in `opts`."""
    cfg = default_config()
    merge_file(cfg, default_config_file(TRAINER_REGISTRY.get(trainer)))
    merge_words(cfg, list(opts))
    return cfg


def build_method(trainer: str, model: CLIP, classes: int, opts: Sequence[str]) -> Method:
    """Build a trainer's `Method` object. `model` is the CLIP that it uses, and `classes` is the number of classes."""
    cls, cfg, data = TRAINER_REGISTRY.get(trainer), config_of(trainer, opts), NamedClasses(class_names(classes))
    return cls.build_method(cfg, model, cls.class_names(data), cls.template(cfg, data))


def images(model: CLIP, batch: int) -> torch.Tensor:
    """Return a batch of random noise images, (batch, 3, resolution, resolution)."""
    side = model.sizes.image_resolution
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def training_step(method: Method, images: torch.Tensor, classes: int) -> Callable[[], None]:
    """Return a job that runs the forward and backward pass of the method's losses for one batch of images."""
    labels = torch.arange(len(images)) % classes  # of all images
    if method.clip.sharing is not None:
        images = images[list(distributed.own_share(range(len(images))))]
    batch = Batch(images, labels, (images,))
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def step() -> None:
        method.zero_grad()
        method.backward(method.losses(method.outputs(batch), batch), scaler)

    return step


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add the argument of the benchmarks that can measure several processes."""
    parser.add_argument("--processes", type=int, default=1, help="processes that share a step, with one thread each")


def in_processes(script: str, argv: Sequence[str], count: int) -> list[str]:
    """Run a script in several connected processes with one thread each. Return the last line that each has printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(count):
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        numbers |= {"MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}
        command = [sys.executable, script, *argv]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in running]
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return [output.splitlines()[-1] for output in outputs]


@contextlib.contextmanager
def naive(method: Method) -> Iterator[None]:
    """Inside this context, `method` computes as the original code does.

    The text tower encodes all 77 tokens of every class, and the last layers of both towers compute all tokens. Both
    towers use `nn.MultiheadAttention`. If the method's text features depend on the image, the method tests one
    image at a time. Text features that were cached before this context was entered are discarded.
    """
    towers = [method.clip.transformer]
    if isinstance(method.clip.visual, VisionTransformer):
        towers.append(method.clip.visual.transformer)
    with contextlib.ExitStack() as stack:
        for tower in towers:  # a tower that has a hook runs the tower's plain, slow code
            stack.callback(tower.register_forward_hook(lambda *_: None).remove)
        stack.enter_context(mock.patch.object(method, "prompts_at_once", 1, create=True))
        stack.enter_context(mock.patch.object(method.clip, "text_chunk", 0))
        stack.callback(method.clear_text_cache)
        method.clear_text_cache()
        yield


def interleaved(jobs: Mapping[str, Job], repeats: int) -> dict[str, float]:
    """Return the median time of each job, in seconds. Each round runs every job once. The first round is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured) for name, measured in times.items()}


def products(prec: str, side: int = 2048, count: int = 5) -> tuple[Callable[[], None], int]:
    """Return a job of large matrix products, and the number of its floating-point operations.

    The number divided by the job's time is the rate that the machine reaches, in operations per second. To compare a
    benchmark with this rate, run this job interleaved with the benchmark's job.
    """
    a, b = (torch.randn(side, side).to(TYPES[prec]) for _ in range(2))

    def job() -> None:
        for _ in range(count):
            a @ b

    return job, count * 2 * side**3


def rate(prec: str) -> float:
    """Return the floating-point operations per second that the machine reaches in large matrix products."""
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
    """Print a benchmark's measurements as a line of JSON. A value that wasn't measured is null.

    The key `share` is the fraction of the peak rate that the job reaches: `needed_flops` / `seconds` / `peak_flops`.

    Args:
        seconds: time of the job that the benchmark measures.
        baseline_seconds: time of the baseline.
        needed_flops: minimum number of operations that the job needs, see flops.py.
        peak_flops: operations per second of large matrix products.
        ratio: the baseline's cost divided by the job's cost. If None, the ratio of the two times is printed.
        peak_bytes: peak memory of the job.
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
