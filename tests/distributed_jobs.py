"""What the processes of the tests of `dassl.distributed` do: see `several_processes.run`."""

import contextlib
import io
import os
import signal
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import measure
import numpy as np
import small_clip
import torch
from tiny_methods import TRAINERS, config

import train
from clip.model import from_state_dict
from dassl import distributed
from dassl.data.datasets import Task
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer

#: A CLIP of the smallest sizes at which all paths of the towers are used.
SIZES = {
    "embed_dim": 32, "image_resolution": 32, "vision_layers": 3, "vision_width": 64, "vision_patch_size": 16,
    "transformer_width": 64, "transformer_heads": 1, "transformer_layers": 3,
}  # fmt: skip
TASKS = (
    Task("kinds of things", ("red_thing", "green thing", "a rather long name of a thing")),
    Task("letters", "abxy"),
)
NAMES = [name for task in TASKS for name in task.classnames]
BATCH = 4
#: Each process draws its own dropout, so with dropout several processes don't equal one.
WITHOUT_DROPOUT = {"CLIPLoRA": ["TRAINER.CLIPLORA.DROPOUT", 0.0]}
#: Options that take another path: {name: (trainer, options)}. In addition, each trainer is used with its defaults.
VARIANTS = {
    "a context per class": ("CoOp", ["TRAINER.COOP.CSC", True]),
    "contexts after the names": ("CoOp", ["TRAINER.COOP.CSC", True, "TRAINER.COOP.CLASS_TOKEN_POSITION", "middle"]),
    "chunks": ("MaPLe", ["TRAINER.TEXT_CHUNK", 12]),
    "chunks of contexts per image": ("CoCoOp", ["TRAINER.TEXT_CHUNK", 40]),
    "chunks of prompts per class": ("TCP", ["TRAINER.TEXT_CHUNK", 40]),
    "conflicts per class": ("ProGrad", ["TRAINER.PROGRAD.CSC", True]),
    "sampled classes": ("SoftCPT", ["TRAINER.SOFTCPT.CSC", True, "TRAINER.SOFTCPT.CLS_SAMPLE_RATE", 0.6]),
    "padded": ("IVLP", ["TRAINER.TEXT_ATTENTION", "padded"]),
}


class Names(measure.NamedClasses):
    """A data set without images, which has two tasks."""

    tasks = TASKS  # type: ignore[assignment]


class Trained(NamedTuple):
    """The results of a training. They are arrays, because a tensor could only be read while its process lives."""

    losses: np.ndarray  # (steps, terms)
    parameters: np.ndarray  # all parameters in one vector
    logits: np.ndarray  # (batch, classes) after the training


def cases() -> dict[str, tuple[str, list]]:
    return {name: (name, WITHOUT_DROPOUT.get(name, [])) for name in TRAINERS} | VARIANTS


def train_all(steps: int, dtype: str, names: Sequence[str] = ()) -> dict[str, Trained]:
    """Train each case for some steps. All processes together see the same batches as a single process."""
    distributed.join()
    with contextlib.redirect_stdout(io.StringIO()), double_precision() if dtype == "float64" else single_precision():
        chosen = {name: case for name, case in cases().items() if not names or name in names}
        return {name: train_one(*case, steps) for name, case in chosen.items()}


@contextlib.contextmanager
def double_precision():
    """Compute in float64, also where the code asks for float32 with `Tensor.float`."""
    torch.set_default_dtype(torch.float64)
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield
    torch.set_default_dtype(torch.float32)


def single_precision():
    return contextlib.nullcontext()


def train_one(name: str, options: list, steps: int) -> Trained:
    trainer = build_trainer(name, options)
    torch.manual_seed(1)
    losses = []
    for step in range(steps if trainer.get_model_names() and trainer.model.has_loop else 0):
        trainer.batch_idx = step
        losses.append([*trainer.forward_backward(batch_of(trainer, step)).values()])
    images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(99), dtype=torch.get_default_dtype())
    trainer.set_model_mode("test")
    with torch.no_grad(), trainer.model.clip.alone():
        logits = trainer.model_inference(images)
    parameters = [parameter.detach().flatten() for parameter in trainer.model.parameters()]
    return Trained(np.array(losses), torch.cat([*parameters, torch.zeros(1)]).numpy(), logits.numpy())


def build_trainer(name: str, options: list) -> PromptTrainer:
    """Build a trainer without images."""
    cls = TRAINER_REGISTRY.get(name)

    class Imageless(cls):
        def build_data_loader(self):
            self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
            self.num_classes, self.lab2cname = len(NAMES), dict(enumerate(NAMES))
            self.dm = SimpleNamespace(dataset=Names(NAMES))

    Imageless.__name__, Imageless.node = cls.__name__, cls.node
    words = ["INPUT.SIZE", (32, 32), "SEED", 1, "DATALOADER.K_TRANSFORMS", 2, "OPTIM.LR", 0.01, "USE_CUDA", False]
    cfg = config(name, *words, f"TRAINER.{cls.node or name.upper()}.PREC", "fp32", *options)
    clip = from_state_dict(small_clip.state_dict(**SIZES))
    with mock.patch("trainers.common.trainer.load_backbone", return_value=clip):
        trainer = Imageless(cfg)
    trainer.num_batches = 10**9  # the learning rate stays the same
    trainer.set_model_mode("train")
    return trainer


def batch_of(trainer: PromptTrainer, number: int) -> dict:
    """The batch as the loader of this process would yield it."""
    random = torch.Generator().manual_seed(number)
    views = [torch.randn(BATCH, 3, 32, 32, generator=random, dtype=torch.get_default_dtype()) for _ in range(2)]
    labels = torch.randint(len(NAMES), (BATCH,), generator=random)
    if hasattr(trainer.model, "task_of_class"):
        task = trainer.model.task_of_class
        rows = torch.where(task == task[labels][:, None], 0, -1)
        labels = rows.scatter(1, labels[:, None], 1)
    share = list(distributed.own_share(range(BATCH)))
    return {"img": [view[share] for view in views], "label": labels[share]}


# ---- whole runs ----


def run_main(
    argv: Sequence[object], cache: str = "", stop_in_epoch: int | None = None, hangs: bool = False
) -> tuple[int, str, str]:
    """Execute train.py. Return its exit code and what it prints.

    Args:
        cache: the cache folder, if it isn't the user's.
        stop_in_epoch: process 1 is killed at the start of this epoch (from 0).
        hangs: process 1 doesn't answer before it is killed.
    """
    run_epoch = PromptTrainer.run_epoch
    os.environ |= {"XDG_CACHE_HOME": cache} if cache else {}
    os.environ |= {"DIST_TIMEOUT": "15"} if hangs else {}

    def run_until(self) -> None:
        if self.epoch == stop_in_epoch and distributed.label().startswith("process 1"):
            time.sleep(40 if hangs else 0)
            os.kill(os.getpid(), signal.SIGKILL)
        run_epoch(self)

    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(PromptTrainer, "run_epoch", run_until),
        mock.patch("sys.stdout", out),
        mock.patch("sys.stderr", err),
        mock.patch("sys.__stderr__", err),
    ):
        code = train.main([str(word) for word in argv])
    return code, out.getvalue(), err.getvalue()
