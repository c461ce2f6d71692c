"""The class `PromptTrainer`, which trains and evaluates a `Method`.

`train.py` builds the trainer that the config names. The trainer loads the frozen CLIP, builds the method, and optimises
the method's parameters. It saves checkpoints that hold only these parameters, and evaluates with cached features. Each
method's file has a subclass of `PromptTrainer`, which sets the class of the method and of its options, the checkpoint
folders and the default config files.
"""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from clip.compiling import compile_blocks
from clip.memory import fitting_chunk
from clip.model import CLIP
from dassl import distributed
from dassl.config import chooses_by_validation
from dassl.data.datasets import DatasetBase
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import InputError, count_num_param, device_memory, load_pretrained_weights, set_random_seed
from trainers.common.backbone import cast_weights, load_backbone
from trainers.common.checkpoint import learned_tensors, note_trained_classes, plain_names, trained_classes
from trainers.common.evaluation import CachedEvaluation
from trainers.common.features import TrainingFeatures
from trainers.common.graph import CAPTURES, CapturedSteps, StepResult, obstacle
from trainers.common.method import Batch, ClassNames, Method, total
from trainers.common.options import Options, node_of


class PromptTrainer(CachedEvaluation):
    """Trains the learnable parts of a `Method` with the method's losses.

    A subclass sets the class attributes. `node`, `checkpoints`, `default_config`, `few_shot_config` and
    `cross_dataset_config` must be literals, because `experiments/` reads them without importing the file.
    """

    method: type[Method]
    options: type[Options] = Options
    node = ""  # config node below TRAINER; "": the class's name in capitals
    checkpoints: Mapping[str, str] = {}  # {checkpoint folder: submodule of the method}; submodule "": the method
    default_config = ""  # file in configs/trainers/<trainer>/, or another trainer's file, as in "CoOp/vit_b16_ep50"
    few_shot_config = ""  # config for few-shot runs on all classes; "": same as default_config
    cross_dataset_config = ""  # config for training on ImageNet and testing on other data; "": same as default_config
    #: {key or node of the original code's config: ours}, so that the original YAML files and commands work.
    official_keys: Mapping[str, str] = {}
    #: {name of a key in such a node that our node lacks: its only supported value}. None: all values, without effect.
    fixed_keys: Mapping[str, object] = {}

    lr_per_step = False  # True: the schedule steps after every batch; False: after every epoch
    shares_work = True  # see `SimpleTrainer`
    captured: CapturedSteps | None = None  # does the training steps, if `capture_steps` was called and could capture

    # ---- functions that a subclass may override ----

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> Mapping[str, object]:
        """Return config values (key -> value) that depend on the data set, the protocol and the number of shots.

        The values override the config files, and the command line overrides the values. The log shows the values.

        Args:
            dataset: class name of the data set.
            protocol: base2new, few_shot, cross_dataset, or "" if the run belongs to no protocol.
            shots: number of training images per class; less than 1 means all images.
        """
        return {}

    @classmethod
    def class_names(cls, dataset: DatasetBase) -> ClassNames:
        """Return the classes of a data set in the form that the method needs."""
        if not all(isinstance(name, str) for name in dataset.classnames):
            raise InputError(f"{cls.__name__} learns one task, but {type(dataset).__name__} has several")
        return cls.from_names(dataset.classnames)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ClassNames:
        """Convert a list of class names to the form that the method needs."""
        return names

    @classmethod
    def template(cls, cfg: CfgNode, dataset: DatasetBase) -> str:
        """Return the zero-shot prompt that is passed to the method."""
        return cfg.DATASET.TEMPLATE or dataset.template

    # ---- building ----

    @classmethod
    def read_options(cls, cfg: CfgNode) -> Options:
        """Read the method's options from a resolved config."""
        return cls.options.read(cfg.TRAINER[node_of(cls)])

    @classmethod
    def build_method(cls, cfg: CfgNode, clip: CLIP, classnames: ClassNames, template: str) -> Method:
        """Build the method with `clip`. No data set is needed, so `load_method` can rebuild a trained method."""
        return cls.method(cls.read_options(cfg), clip, classnames, template)

    def check_cfg(self, cfg: CfgNode) -> None:
        self.read_options(cfg)  # raises InputError for a wrong value
        if cfg.INPUT.NO_TRANSFORM:
            raise InputError("INPUT.NO_TRANSFORM True leaves images of different sizes, which can't be batched")
        compilers = (shlex.split(os.environ.get("CXX") or "g++")[0], "clang++")
        if cfg.TRAINER.COMPILE and not any(map(shutil.which, compilers)):
            raise InputError(f"TRAINER.COMPILE needs a C++ compiler. Install {' or '.join(compilers)}")

    def build_model(self) -> None:
        cfg = self.cfg
        clip = load_backbone(cfg).to(self.device)
        self.precision = cast_weights(clip, self.read_options(cfg).PREC, self.device)
        clip.text_chunk = cfg.TRAINER.TEXT_CHUNK or fitting_chunk(clip.sizes, device_memory(self.device))
        clip.text_attention = cfg.TRAINER.TEXT_ATTENTION
        clip.sharing = distributed.gathered_features()
        if cfg.TRAINER.COMPILE:
            compile_blocks(clip)
        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)  # so that the initial prompts don't depend on earlier random draws
        dataset = self.dm.dataset
        method = self.build_method(cfg, clip, self.class_names(dataset), self.template(cfg, dataset))
        self.model = method.to(self.device).eval()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "amp")
        learnable = [name for name, _ in self.model.named_parameters()]
        print(f"Parameters to be updated: {count_num_param(self.model):,} in {', '.join(learnable) or 'nothing'}")
        if self.model.sized_by_data and set(self.checkpoints.values()) != {""}:
            raise TypeError(
                f'{type(self).__name__}: with sized_by_data, `checkpoints` must save the whole method (part "")'
            )
        if self.checkpoints:
            self._register_parts(has_parameters=bool(learnable))

    def _register_parts(self, has_parameters: bool) -> None:
        """Register each part of the method with its checkpoint folder. All parts share one optimiser."""
        cfg = self.cfg
        optimizer: tuple[Optimizer | None, LRScheduler | None] = (None, None)
        if has_parameters:
            self.optim = build_optimizer(self.model, cfg.OPTIM)
            self.sched = self.build_schedule()
            optimizer = self.optim, self.sched
        parts = dict(self.model.named_modules())
        for folder, part in self.checkpoints.items():
            if part in parts:
                if cfg.MODEL.INIT_WEIGHTS:
                    load_pretrained_weights(parts[part], cfg.MODEL.INIT_WEIGHTS)
                self.register_model(folder, parts[part], *optimizer)
                optimizer = None, None  # the optimiser belongs to the first part only, so it steps once per batch

    def build_schedule(self) -> LRScheduler:
        """Build the schedule of the optimiser's learning rate."""
        return build_lr_scheduler(self.optim, self.cfg.OPTIM)

    # ---- training ----

    def train(self) -> None:  # type: ignore[override]
        if not self.get_model_names():
            print(f"{self.cfg.TRAINER.NAME} has nothing to learn, so training is skipped")
            self.max_epoch = 0
        elif not self.model.has_loop:
            self.max_epoch = 1  # one empty epoch, which saves a checkpoint of the parameters that `fit` learned
        super().train()

    def before_train(self) -> None:
        super().before_train()
        if self.max_epoch and not self.start_epoch:
            self.model.fit(self._training_features())
        if self.max_epoch and self.model.has_loop and self.cfg.TRAINER.CUDA_GRAPH:
            self.capture_steps()  # only now, because a resume replaces tensors of the optimiser

    def _training_features(self) -> TrainingFeatures:
        return TrainingFeatures(self.model.clip, self.dm.dataset, self.cfg, self.device, self.precision)

    def run_epoch(self) -> None:
        if self.model.has_loop:
            super().run_epoch()

    def end_epoch(self) -> None:
        distributed.check_equal(self.model.parameters(), "the parameters")
        is_last = self.epoch + 1 == self.max_epoch
        self.model.end_epoch(self.epoch, is_last)
        if is_last or chooses_by_validation(self.cfg):
            self.model.eval()
            with torch.no_grad(), self._autocast():
                self.model.search(self._training_features())
        if self.captured and self.model.changes_between_epochs:
            self.captured.forget()

    def stop_early(self) -> None:
        self.end_epoch()  # now, this epoch is the last

    def extra_state(self) -> dict[str, object]:
        """Return the class names, the template, the text tower's chunk size, the method's state and the loss scaler's.

        These are the entries that a checkpoint holds in addition to the parameters.
        """
        state: dict[str, object] = {
            "classnames": plain_names(self.model.classnames),
            "template": str(self.model.template),
            "text_chunk": self.model.clip.text_chunk,
        }
        if method_state := self.model.state():
            state["method"] = method_state
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        return state

    def load_extra_state(self, checkpoint: dict) -> None:
        """Restore the chunk size, the method's state and the loss scaler when a run is resumed."""
        if not self.cfg.TRAINER.TEXT_CHUNK:  # another chunk size would change the last bits
            self.model.clip.text_chunk = checkpoint.get("text_chunk", self.model.clip.text_chunk)
        if "method" in checkpoint:
            self.model.load_state(checkpoint["method"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(checkpoint["scaler"])

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Train on a batch of a data loader. Return the loss, its terms if there are several, and the accuracy."""
        inputs = self.read_batch(batch)
        result = self.captured.run(inputs) if self.captured else self.training_step(inputs)
        loss, *terms = torch.stack([value.float() for value in (result.loss, *result.terms.values())]).tolist()
        self.detect_anomaly(torch.tensor(loss))
        if self.lr_per_step or self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        named = dict(zip(result.terms, terms, strict=True)) if len(terms) > 1 else {}
        return {"loss": loss, **named, "acc": self.model.accuracy(result.output, inputs)}

    def training_step(self, inputs: Batch) -> StepResult:
        """Do a whole step: forward pass, losses, backward pass and optimiser. On a GPU, the kernels are only queued."""
        with self._autocast():
            output = self.model.outputs(inputs)
            losses = self.model.losses(output, inputs)
        loss = total(losses).detach()
        self.model_zero_grad()
        self.model.backward(losses, self.scaler)
        if distributed.size() > 1 and self.batch_idx == 0:
            found = [parameter.grad for parameter in self.model.learnable() if parameter.grad is not None]
            distributed.check_equal(found, f"gradients, which {type(self.model).__name__} must get from `gradients`,")
        self.step()
        terms = {name: value.detach() for name, (_, value) in losses.items()}
        return StepResult(loss, terms, output.detached())

    def step(self) -> None:
        """Let the optimiser do one step, and update the loss scale."""
        self.scaler.step(self.optim)
        self.scaler.update()

    def capture_steps(self) -> None:
        """Capture all further training steps as CUDA graphs. If that is impossible, only print the reason."""
        optimizers = {optimizer for optimizer in self._optims.values() if optimizer is not None}
        if self.device.type not in CAPTURES:
            reason = f"they need a CUDA GPU, but the device is {self.device.type}"
        elif type(self).forward_backward is not PromptTrainer.forward_backward:
            reason = f"{type(self).__name__} has another `forward_backward`"
        else:
            reason = obstacle(self.model, optimizers)
        if reason:
            print(f"TRAINER.CUDA_GRAPH: training without CUDA graphs, because {reason}")
        else:
            self.captured = CapturedSteps(self.training_step, self.optim, CAPTURES[self.device.type]())

    def read_batch(self, batch: dict) -> Batch:
        """Convert a batch of a data loader to a `Batch`, with all tensors on the device."""
        images, labels = self.parse_batch_train(batch | {"label": distributed.gather_shares(batch["label"])})
        others = batch["img"][1:] if isinstance(batch["img"], list) else []  # a list if K_TRANSFORMS > 1
        return Batch(images, labels, (images, *(view.to(self.device, non_blocking=True) for view in others)))

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images and the labels, on the device. Of several augmentations of an image, take the first."""
        images = batch["img"][0] if isinstance(batch["img"], list) else batch["img"]
        return self.parse_batch_test(batch | {"img": images})

    # ---- testing ----

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the learned parameters from the checkpoints in `directory`.

        Our checkpoints and official checkpoints can be loaded. Official checkpoints may hold the whole model.

        Raises:
            FileNotFoundError: the checkpoint doesn't exist.
            InputError: the checkpoint can't be read; or a parameter is missing, is unknown or has the wrong shape; or
                the parts of the method are of different epochs.
        """
        if not directory or not self.get_model_names():
            super().load_model(directory, epoch)
            return
        for folder, path, checkpoint in self.load_checkpoints(directory, epoch):
            part: nn.Module = self._models[folder]
            part.load_state_dict(learned_tensors(checkpoint, part, self.model, path))
            self.loaded_epoch = checkpoint.get("epoch")
            print(f"Load {path} to {folder} (epoch={self.loaded_epoch})")
            is_new = self.cfg.DATASET.SUBSAMPLE_CLASSES == "new"  # the default for checkpoints without class names
            note_trained_classes(self.model, trained_classes(checkpoint), default=is_new, source=path)

    def result_fields(self) -> dict[str, object]:
        """Return the fields for `result.json`, which are the method's options and the text tower's chunk size."""
        return {"options": dict(self.cfg.TRAINER[node_of(type(self))]), "text_chunk": self.model.clip.text_chunk}
