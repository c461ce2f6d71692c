"""Builds prompt trainers without a data set. Their images are random noise, and their CLIP has random weights.

The GPU benchmark and tests use them, because they need the trainer's own training step: method, precision, loss scaler,
optimiser and CUDA graphs.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from unittest import mock

import measure
import torch

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer, node_of


def build_trainer(name: str, clip: CLIP, classes: int, prec: str, opts: Sequence[str] = ()) -> PromptTrainer:
    """Return a trainer that is ready for `forward_backward` and `model_inference`.

    Args:
        name: name of a prompt trainer.
        clip: float32 CLIP; the trainer moves it to its device and casts it.
        classes: number of classes.
        prec: fp32, fp16, amp or bf16.
        opts: further options, as KEY VALUE pairs.
    """
    cls = TRAINER_REGISTRY.get(name)
    names, side = measure.class_names(classes), clip.sizes.image_resolution

    class Imageless(cls):  # type: ignore[misc, valid-type]
        """The trainer, without a data set."""

        def build_data_loader(self) -> None:
            self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
            self.num_classes, self.lab2cname = classes, dict(enumerate(names))
            self.dm = SimpleNamespace(dataset=measure.NamedClasses(names))

    Imageless.__name__ = cls.__name__  # the name decides about the config node
    cfg = measure.config_of(
        name, ["TRAINER.NAME", name, f"TRAINER.{node_of(cls)}.PREC", prec, "INPUT.SIZE", f"({side},{side})", *opts]
    )
    cfg.SEED = 1  # equal initial prompts in every precision
    with mock.patch("trainers.common.trainer.load_backbone", return_value=clip):
        trainer = Imageless(cfg)
    trainer.batch_idx, trainer.num_batches = 0, 2  # not the last batch, so the learning rate stays
    trainer.epoch, trainer.max_epoch = 0, 1
    trainer.set_model_mode("train")
    return trainer


def batch_of(clip: CLIP, size: int, classes: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return a batch as a data loader yields it: noise images (size, 3, resolution, resolution) and labels (size,)."""
    images = torch.randn(
        size, 3, *(clip.sizes.image_resolution,) * 2, generator=torch.Generator().manual_seed(seed)
    )  # on the CPU
    return {"img": images, "label": (torch.arange(size) + seed) % classes}
