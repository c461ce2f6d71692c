"""`PromptTrainer`: runs the training loop around a `Method`.

`train.py` builds the trainer that the config names. The trainer loads the frozen CLIP, builds the method, optimises
the method's parameters, saves prompts-only checkpoints, and evaluates with cached features. A method's file subclasses
it to name the method, its options, its checkpoint folders and its config files.
"""

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm
from yacs.config import CfgNode

from clip.compiling import compile_blocks
from clip.memory import fitting_chunk
from clip.model import CLIP
from dassl.data.data_manager import reads_in_order
from dassl.data.datasets import DatasetBase
from dassl.engine import TrainerX
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
from trainers.common.backbone import cast_weights, load_backbone
from trainers.common.checkpoint import learned_tensors, plain_names, trained_classes
from trainers.common.features import TrainingFeatures, image_features, is_frozen_and_original
from trainers.common.method import Batch, ClassNames, Method, total
from trainers.common.options import PRECISIONS, Options, node_of


class PromptTrainer(TrainerX):
    """Trains the learnable parts of a `Method` with its losses.

    A subclass sets the class attributes. Those that choose config files must be literals: `experiments/` reads them
    without importing the file.
    """

    method: type[Method]
    options: type[Options] = Options
    node = ""  # config node below TRAINER; empty: the class's name in capitals
    checkpoints: Mapping[str, str] = {}  # checkpoint folder -> name of the method's submodule in it; "": the method
    default_config = ""  # file below configs/trainers/<trainer>/, or another trainer's: "CoOp/vit_b16_ep50"
    cross_dataset_config = ""  # the same for training on ImageNet and testing elsewhere, if it differs

    model: Method

    # ---- what a subclass may override ----

    @classmethod
    def values(cls, dataset: str, protocol: str) -> Mapping[str, object]:
        """Config keys and values for a data set's class name and a protocol (base2new, few_shot, cross_dataset).

        They override the config files; the command line overrides them. The log shows them.
        """
        return {}

    @classmethod
    def class_names(cls, dataset: DatasetBase) -> ClassNames:
        """The classes of a data set, as the method takes them."""
        return cls.from_names(dataset.classnames)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ClassNames:
        """A plain list of class names, as the method takes it."""
        return names

    @classmethod
    def template(cls, cfg: CfgNode, dataset: DatasetBase) -> str:
        """The zero-shot prompt that the method is built with."""
        return cfg.DATASET.TEMPLATE or dataset.template

    # ---- building ----

    @classmethod
    def read_options(cls, cfg: CfgNode) -> Options:
        """The method's options in a resolved config."""
        return cls.options.read(cfg.TRAINER[node_of(cls)])

    @classmethod
    def build_method(cls, cfg: CfgNode, clip: CLIP, classnames: ClassNames, template: str) -> Method:
        """The method around `clip`. Needs no data set, so a prediction can rebuild it from a run's folder."""
        return cls.method(cls.read_options(cfg), clip, classnames, template)

    def check_cfg(self, cfg: CfgNode) -> None:
        precision = self.read_options(cfg).PREC
        if precision not in PRECISIONS:
            raise unknown(f"precision (TRAINER.{node_of(type(self))}.PREC)", precision, PRECISIONS)
        compilers = (shlex.split(os.environ.get("CXX") or "g++")[0], "clang++")
        if cfg.TRAINER.COMPILE and not any(map(shutil.which, compilers)):
            raise InputError(f"TRAINER.COMPILE needs a C++ compiler, but there is none: {' or '.join(compilers)}")

    def build_model(self) -> None:
        cfg = self.cfg
        clip = load_backbone(cfg).to(self.device)
        self.precision = cast_weights(clip, self.read_options(cfg).PREC, self.device)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else free_memory()
        clip.text_chunk = cfg.TRAINER.TEXT_CHUNK or fitting_chunk(clip.sizes, free)
        if cfg.TRAINER.COMPILE:
            compile_blocks(clip)
        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)  # prompts start from the same values whatever was drawn before
        dataset = self.dm.dataset
        method = self.build_method(cfg, clip, self.class_names(dataset), self.template(cfg, dataset))
        self.model = method.to(self.device).eval()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "amp")
        learnable = [name for name, _ in self.model.named_parameters()]
        print(f"Parameters to be updated: {count_num_param(self.model):,} in {', '.join(learnable) or 'nothing'}")
        if self.checkpoints:
            self._register_parts(has_parameters=bool(learnable))

    def _register_parts(self, has_parameters: bool) -> None:
        """Register the method's parts, each with a checkpoint folder. One optimiser serves all of them."""
        cfg = self.cfg
        optimizer: tuple[Optimizer | None, LRScheduler | None] = (None, None)
        if has_parameters:
            self.optim = build_optimizer(self.model, cfg.OPTIM)
            self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
            optimizer = self.optim, self.sched
        parts = dict(self.model.named_modules())
        for folder, part in self.checkpoints.items():
            if part in parts:
                if cfg.MODEL.INIT_WEIGHTS:
                    load_pretrained_weights(parts[part], cfg.MODEL.INIT_WEIGHTS)
                self.register_model(folder, parts[part], *optimizer)
                optimizer = None, None  # registered with the first part only: it must step once a batch

    # ---- training ----

    def train(self) -> None:  # type: ignore[override]
        if not self.get_model_names():
            print(f"{self.cfg.TRAINER.NAME} has nothing to learn: testing at once")
            self.max_epoch = 0
        elif not self.model.has_loop:
            self.max_epoch = 1  # `run_epoch` does nothing; the one checkpoint holds what `fit` learned
        super().train()

    def before_train(self) -> None:
        super().before_train()
        if self.max_epoch and not self.start_epoch:
            self.model.fit(self._training_features())

    def _training_features(self) -> TrainingFeatures:
        return TrainingFeatures(self.model.clip, self.dm.dataset, self.cfg, self.device, self.precision)

    def run_epoch(self) -> None:
        if self.model.has_loop:
            super().run_epoch()

    def end_epoch(self) -> None:
        is_last = self.epoch + 1 == self.max_epoch
        self.model.end_epoch(self.epoch, is_last)
        if is_last:
            self.model.search(self._training_features())

    def extra_state(self) -> dict[str, object]:
        """Beside parameters: the classes and the template, the method's state, and under amp the loss scale."""
        state: dict[str, object] = {"classnames": plain_names(self.model.classnames), "template": self.model.template}
        if method_state := self.model.state():
            state["method"] = method_state
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        return state

    def load_extra_state(self, checkpoint: dict) -> None:
        """Restore what `extra_state` saved, on a resume."""
        if "method" in checkpoint:
            self.model.load_state(checkpoint["method"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(checkpoint["scaler"])

    def forward_backward(self, batch: dict) -> dict[str, float]:
        inputs = self.read_batch(batch)
        with self._autocast():
            output = self.model.outputs(inputs)
            losses = self.model.losses(output, inputs)
        loss = total(losses)
        self.detect_anomaly(loss)
        self.model_zero_grad()
        self.model.backward(losses, self.scaler)
        self.step()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        terms = {name: value.item() for name, (_, value) in losses.items()} if len(losses) > 1 else {}
        return {"loss": loss.item(), **terms, "acc": self.model.accuracy(output, inputs)}

    def step(self) -> None:
        """A step of the optimiser."""
        self.scaler.step(self.optim)
        self.scaler.update()

    def read_batch(self, batch: dict) -> Batch:
        """A loader's batch, on the device."""
        views = batch["img"] if isinstance(batch["img"], list) else [batch["img"]]  # a list if K_TRANSFORMS > 1
        on_device = tuple(view.to(self.device, non_blocking=True) for view in views)
        return Batch(on_device[0], batch["label"].to(self.device, non_blocking=True), on_device)

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, enabled=self.precision == "amp")

    # ---- evaluation ----

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            return self.model(input)

    def predictions(self, loader: DataLoader, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[str]]]:
        """Logits, labels and paths of every batch, from cached image features where the method allows it.

        A method that overrides `forward` or `encode_image` must leave `image_tower_is_frozen` False.
        """
        clip = self.model.clip
        frozen = self.model.image_tower_is_frozen and is_frozen_and_original(clip.visual)
        if not (self.cfg.TEST.CACHE_FEATURES and frozen and reads_in_order(loader)):
            yield from super().predictions(loader, split)
            return
        features = image_features(clip, loader, self.device, self.precision, use_cache=True)
        items, size = loader.dataset.data_source, cast(int, loader.batch_size)  # type: ignore[attr-defined]
        for start in tqdm(range(0, len(items), size), desc=split, leave=False):
            batch = items[start : start + size]
            with self._autocast():
                logits = self.model.classify(features[start : start + size].to(self.device)).logits
            labels = default_collate([item.label for item in batch]).to(self.device)
            yield logits, labels, [item.impath for item in batch]

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load prompts from `directory`: ours, or an official checkpoint that holds the whole model.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            InputError: it can't be read, or a prompt is missing, unknown or of another shape; names it.
        """
        if not directory or not self.get_model_names():
            super().load_model(directory, epoch)
            return
        for folder in self.get_model_names():
            path = self.find_checkpoint(directory, folder, epoch)
            checkpoint = load_checkpoint(path)
            part: nn.Module = self._models[folder]
            part.load_state_dict(learned_tensors(checkpoint, part, self.model, path))
            self.loaded_epoch = checkpoint.get("epoch")
            print(f"Load {path} to {folder} (epoch={self.loaded_epoch})")
            trained = trained_classes(checkpoint)
            if trained is None:  # an official or older checkpoint
                self.model.has_new_classes = self.cfg.DATASET.SUBSAMPLE_CLASSES == "new"
            else:
                self.model.has_new_classes = trained != list(self.model.classnames)

    def result_fields(self) -> dict[str, object]:
        """What `result.json` says of the method beside the engine's keys."""
        return {"options": dict(self.cfg.TRAINER[node_of(type(self))]), "text_chunk": self.model.clip.text_chunk}
