"""What all prompt trainers share: the frozen backbone, precision, optimiser, loss, checkpoints, cached evaluation.

A method states its learnable parts and its features (a `Method`), and how to build that (a `PromptTrainer`).
"""

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import SequentialSampler, default_collate
from tqdm import tqdm

from clip.blocks import compile_blocks
from clip.inputs import NO_INPUTS, TowerInputs
from clip.loading import WeightsError, load_clip
from clip.model import CLIP, convert_weights
from clip.text import fitting_chunk
from dassl.data.data_manager import DatasetWrapper
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    InputError,
    count_num_param,
    free_memory,
    load_checkpoint,
    load_pretrained_weights,
    set_random_seed,
    unknown,
)
from trainers.common.checkpoint import prompts_of
from trainers.common.features import image_features, is_plain


def normalized(features: torch.Tensor) -> torch.Tensor:
    """Features (..., embed_dim) at length 1, float32 whatever the towers compute in: bf16 logits would tie."""
    return F.normalize(features.float(), dim=-1)


class Method(nn.Module):
    """A frozen CLIP and what is learned around it.

    Parameters and state dict are those of the learnable parts alone: the CLIP is not a submodule.
    """

    clip: CLIP
    learns_text = True  # whether the text features depend on a learnable parameter

    def __init__(self, model: CLIP):
        super().__init__()
        self.__dict__["clip"] = model
        self._cache: tuple[list, torch.Tensor] | None = None

    def forget(self) -> None:
        """Drop the text features that evaluation has kept."""
        self._cache = None

    def encode_text(self) -> torch.Tensor:
        """Features of all classes (classes, embed_dim), not normalised."""
        raise TypeError(f"{type(self).__name__} must define encode_text")

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Features of images (batch, embed_dim), not normalised."""
        prompts = self.image_prompts()
        return self.clip.encode_image(image, TowerInputs(prompts) if prompts else NO_INPUTS)

    def image_prompts(self) -> Mapping[int, torch.Tensor]:
        """Prompts of the image tower's layers, each (n, width); none unless a method has some."""
        return {}

    def text_features(self) -> torch.Tensor:
        """Normalised features of all classes (classes, embed_dim).

        Without gradients they are computed once for as long as no parameter changes: once a test, not once a batch.
        Where nothing in the text tower is learned, they are computed once.
        """
        if torch.is_grad_enabled() and self.learns_text:
            return normalized(self.encode_text())
        state = [(p.data_ptr(), p._version) for p in self.parameters()] if self.learns_text else []
        if self._cache is None or self._cache[0] != state:
            with torch.no_grad():
                self._cache = state, normalized(self.encode_text())
        return self._cache[1]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images (batch, 3, resolution, resolution) -> logits (batch, classes), float32."""
        return self.logits(self.encode_image(image))

    def logits(self, image_features: torch.Tensor) -> torch.Tensor:
        """Image features (batch, embed_dim), not normalised -> logits (batch, classes), float32."""
        return self.similarity(normalized(image_features), self.text_features())

    def image_tower_is_frozen(self) -> bool:
        """Whether image features are those of the frozen CLIP: no prompt, no adapter, nothing that is learned."""
        own = type(self)
        untouched = (own.forward, own.encode_image) == (Method.forward, Method.encode_image)
        return untouched and not self.image_prompts() and is_plain(self.clip.visual)

    def similarity(self, image_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Scaled cosines (batch, classes), float32, of normalised features (batch, embed_dim) and (classes, embed_dim),
        or (batch, classes, embed_dim) where every image has its own."""
        with torch.autocast(image_features.device.type, enabled=False):  # amp would multiply in half precision
            pairs = "be,ce->bc" if text_features.ndim == 2 else "be,bce->bc"
            cosines = torch.einsum(pairs, image_features, text_features)
            return self.clip.logit_scale.float().exp() * cosines


def load_backbone(cfg: Any) -> CLIP:
    """The CLIP that MODEL.BACKBONE names, float32, frozen.

    Raises:
        InputError: it can't be had, or INPUT.SIZE, PIXEL_MEAN or PIXEL_STD are not what it was trained with.
    """
    opts = cfg.MODEL.BACKBONE
    print(f"Loading CLIP (backbone: {opts.PATH or opts.NAME})")
    try:
        model = load_clip(opts.NAME, opts.PATH)
    except (ValueError, WeightsError) as error:
        raise InputError(str(error)) from error
    sizes = model.sizes
    wanted = {
        "SIZE": (sizes.image_resolution,) * 2,
        "PIXEL_MEAN": sizes.mean,
        "PIXEL_STD": sizes.std,
    }
    for key, value in wanted.items():
        if tuple(cfg.INPUT[key]) != tuple(value):
            words = str(tuple(value)).replace(" ", "")
            raise InputError(
                f"INPUT.{key} is {tuple(cfg.INPUT[key])}, but {opts.PATH or opts.NAME} takes another: "
                f'add INPUT.{key} "{words}"'
            )
    return model


class PromptTrainer(TrainerX):
    """Trains the learnable parts of a `Method` with cross-entropy.

    A subclass names the folder of its checkpoints and its config files, and builds its model.
    """

    model: Method
    node = ""  # config node below TRAINER; empty: the class's name in capitals
    checkpoints: Mapping[str, str] = {}  # folder of a checkpoint -> the part of the model that is in it ("": all of it)
    default_config = ""  # file below configs/trainers/<trainer>/ where --config-file is left out
    cross_dataset_config = ""  # the same for training on ImageNet and testing elsewhere, where it is another

    @classmethod
    def make_model(cls, cfg: Any, model: CLIP, dataset: Any) -> Method:
        """The method around `model`, for `dataset.classnames` (and `dataset.template`, for zero-shot prompts)."""
        raise TypeError("a trainer must define make_model")

    def check_cfg(self, cfg: Any) -> None:
        choices = ("fp32", "fp16", "amp", "bf16")
        prec = self.options(cfg).PREC
        if prec not in choices:
            raise unknown(f"precision (TRAINER.{cfg.TRAINER.NAME.upper()}.PREC)", prec, choices)
        compilers = (shlex.split(os.environ.get("CXX") or "g++")[0], "clang++")
        if cfg.TRAINER.COMPILE and not any(map(shutil.which, compilers)):
            raise InputError(f"TRAINER.COMPILE needs a C++ compiler, but there is none: {' or '.join(compilers)}")

    @classmethod
    def options(cls, cfg: Any) -> Any:
        """The trainer's config node."""
        return cfg.TRAINER[cls.node or cls.__name__.upper()]

    def result_fields(self) -> dict[str, Any]:
        return {"options": dict(self.options(self.cfg)), "text_chunk": self.model.clip.text_chunk}

    def build_model(self) -> None:
        cfg = self.cfg
        model = load_backbone(cfg).to(self.device)
        self.precision = self._set_precision(model)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else free_memory()
        model.text_chunk = cfg.TRAINER.TEXT_CHUNK or fitting_chunk(model, free)
        if cfg.TRAINER.COMPILE:
            compile_blocks(model)
        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)  # prompts start the same whatever was drawn before
        self.model = self.make_model(cfg, model, self.dm.dataset).to(self.device).eval()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "amp")
        learnable = [name for name, _ in self.model.named_parameters()]
        print(f"Parameters to be updated: {count_num_param(self.model):,} in {', '.join(learnable) or 'nothing'}")
        if learnable:
            self.optim = build_optimizer(self.model, cfg.OPTIM)
            self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
            parts = dict(self.model.named_modules())
            steps: tuple[Any, Any] = self.optim, self.sched
            for folder, part in self.checkpoints.items():
                if part in parts:
                    if cfg.MODEL.INIT_WEIGHTS:
                        load_pretrained_weights(parts[part], cfg.MODEL.INIT_WEIGHTS)
                    self.register_model(folder, parts[part], *steps)
                    steps = None, None  # they go with the first alone: both step once, however many parts there are

    def _set_precision(self, model: CLIP) -> str:
        """Cast the frozen weights as PREC says; returns what it came to. Learnable parts stay in float32."""
        prec = self.options(self.cfg).PREC
        if self.device.type == "cpu" and prec in ("fp16", "amp"):
            print(f"PREC {prec} is for GPUs: computing in fp32 on the CPU")
            prec = "fp32"
        if prec in ("fp16", "bf16"):
            convert_weights(model, torch.float16 if prec == "fp16" else torch.bfloat16)
        return prec

    def train(self) -> None:  # type: ignore[override]
        if not self.get_model_names():
            print(f"{self.cfg.TRAINER.NAME} has nothing to learn: testing at once")
            self.max_epoch = 0
        super().train()

    def extra_state(self) -> dict[str, Any]:
        """With amp the scale of the loss, without which a resumed run would skip other steps."""
        return {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}

    def before_train(self) -> None:
        super().before_train()
        if self.start_epoch and self.scaler.is_enabled():
            directory = self.cfg.RESUME or self.output_dir
            path = self.find_checkpoint(directory, self.get_model_names()[0], self.start_epoch)
            self.scaler.load_state_dict(load_checkpoint(path)["scaler"])

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, enabled=self.precision == "amp")

    def forward_backward(self, batch: dict) -> dict[str, float]:
        image, label = self.parse_batch_train(batch)
        with self._autocast():
            logits = self.training_logits(image, label)
            loss = self.loss(logits, label)
        self.detect_anomaly(loss)
        self.model_zero_grad()
        self.scaler.scale(loss).backward()
        self.step()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": self.accuracy(logits, label)}

    def training_logits(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Logits of images in training; a method may use the labels to leave out work."""
        return self.model(image)

    def accuracy(self, logits: torch.Tensor, label: torch.Tensor) -> float:
        """Accuracy of a batch, in percent."""
        return compute_accuracy(logits, label)[0].item()

    @staticmethod
    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of logits (batch, classes) with labels (batch,)."""
        return F.cross_entropy(logits, label)

    def step(self) -> None:
        """A step of the optimiser."""
        self.scaler.step(self.optim)
        self.scaler.update()

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels, on the device."""
        return self.parse_batch_test(batch)

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            return self.model(input)

    def predictions(self, loader: Any, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[str]]]:
        """From kept image features where the method sees as CLIP does (TEST.CACHE_FEATURES)."""
        inherited = (type(self).model_inference, type(self).parse_batch_test)
        usual = inherited == (PromptTrainer.model_inference, PromptTrainer.parse_batch_test)
        in_order = (type(loader.dataset), type(loader.sampler)) == (DatasetWrapper, SequentialSampler)
        plain = in_order and self.model.image_tower_is_frozen()
        if not (self.cfg.TEST.CACHE_FEATURES and usual and plain):
            yield from super().predictions(loader, split)
            return
        features = image_features(self.model.clip, loader, self.device, self.precision, keep=True)
        items, size = loader.dataset.data_source, loader.batch_size
        for start in tqdm(range(0, len(items), size), desc=split, leave=False):
            batch = items[start : start + size]
            with self._autocast():
                logits = self.model.logits(features[start : start + size].to(self.device))
            labels = default_collate([item.label for item in batch]).to(self.device)
            yield logits, labels, [item.impath for item in batch]

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load prompts from `directory`: ours, or an official checkpoint that holds the whole model.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            InputError: it can't be read, or a prompt is missing, left over or of another shape; names it.
        """
        if not directory or not self.get_model_names():
            super().load_model(directory, epoch)
            return
        for folder in self.get_model_names():
            path = self.find_checkpoint(directory, folder, epoch)
            checkpoint = load_checkpoint(path)
            part = self._models[folder]
            part.load_state_dict(prompts_of(checkpoint, part, self.model.clip, path))
            self.loaded_epoch = checkpoint.get("epoch")
            print(f"Load {path} to {folder} (epoch={self.loaded_epoch})")
