"""The two kinds of models that a `Classifier` can have: a rebuilt method of a run, and an exported ONNX model."""

import contextlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from yacs.config import CfgNode

from dassl.data.datasets import Task
from dassl.utils import InputError
from inference.record import RECORD, RunRecord, checked_classes, read_record, run_record
from trainers.common.method import ClassNames, Method
from trainers.common.options import run_config
from trainers.common.rebuild import prompt_trainer, rebuild_method

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Answer(NamedTuple):
    """What a model says about a batch of images. Both tensors are float32 and on the CPU."""

    logits: torch.Tensor  # (batch, n_classes)
    features: torch.Tensor  # (batch, embed_dim), normalised image features


class Model(Protocol):
    """Maps preprocessed images (batch, 3, height, width) to an answer."""

    #: Whether the model knows no other classes than those of the run. `load_run` refuses other classes then.
    classes_are_fixed: bool

    def __call__(self, images: torch.Tensor) -> Answer: ...


# ---- runs ----


class MethodModel:
    """The model of a run: its method, rebuilt from the checkpoints."""

    def __init__(self, method: Method, device: torch.device):
        self.method, self.device = method, device
        self.classes_are_fixed = method.only_trained_classes

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> Answer:
        output = self.method.inference(images.to(self.device))
        return Answer(output.logits.float().cpu(), output.image_features.float().cpu())


class LoadedRun(NamedTuple):
    """A method that was rebuilt from a run's folder, and what is known about it."""

    method: Method
    record: RunRecord
    cfg: CfgNode


def load_run(
    folder: str | Path, classes: Sequence[str] | None = None, device: torch.device | None = None, precision: str = ""
) -> LoadedRun:
    """Rebuild the method of a run. The training data isn't needed.

    `folder` may also be the folder of a test run (--eval-only). Then the tested prompts and classes are used.

    Args:
        classes: names of other classes to distinguish, for methods that can. None: the classes of the run.
        device: None: the CPU.
        precision: precision to use instead of the run's PREC; "": PREC.

    Raises:
        InputError: the run can't be rebuilt, or its method can't classify other classes.
    """
    folder = Path(folder)
    with contextlib.redirect_stdout(sys.stderr):  # the output of predict.py may be read by a program
        cfg = run_config(folder)
        trainer = prompt_trainer(cfg, folder)
        record = read_record(folder, RunRecord) if (folder / RECORD).is_file() else None
        # An older run has no record. Its relative paths are looked up in the current folder.
        working_folder = Path(record.working_folder) if record else Path.cwd()
        if cfg.MODEL.BACKBONE.PATH:
            cfg.MODEL.BACKBONE.PATH = str(_existing(cfg.MODEL.BACKBONE.PATH, working_folder))
        checkpoints = _existing(cfg.TEST.MODEL_DIR, working_folder) if _tests_other_prompts(cfg) else folder
        names: ClassNames | None = None
        if classes is not None:
            names = trainer.from_names(checked_classes(classes))
        elif record:
            names = _classes_of(record)
        template = record.template if record else None
        method = rebuild_method(cfg, checkpoints, names, template, device or "cpu", precision)
    return LoadedRun(method, run_record(cfg, method.classnames, method.template, working_folder), cfg)


def _classes_of(record: RunRecord) -> ClassNames:
    """Return the classes of a record in the form that the method needs."""
    if not record.tasks:
        return record.classes
    names = iter(record.classes)
    return [Task(task.name, list(itertools.islice(names, task.n_classes))) for task in record.tasks]


def _tests_other_prompts(cfg: CfgNode) -> bool:
    return bool(cfg.TEST.EVAL_ONLY and cfg.TEST.MODEL_DIR)


def _existing(path: str, working_folder: Path) -> Path:
    """Return a path of a run's config. A relative path is relative to the folder in which the run was started."""
    found = working_folder / Path(path).expanduser()
    return found if found.exists() else Path(path).expanduser()


# ---- exported models ----


class OnnxModel:
    """An exported ONNX model. ONNX Runtime runs it, because a file in this format can't contain code.

    The other exported format, torch.export's, isn't loaded here: PyTorch may unpickle parts of such a file.
    """

    classes_are_fixed = True

    def __init__(self, file: Path):
        self.session = _session(file)

    def __call__(self, images: torch.Tensor) -> Answer:
        logits, features = self.session.run(["logits", "features"], {"images": images.numpy()})
        return Answer(torch.from_numpy(logits), torch.from_numpy(features))


def _session(file: Path) -> "InferenceSession":
    if not file.is_file():
        raise InputError(f"{file.parent} isn't an exported classifier, because it has no {file.name}")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError("an exported classifier needs the package onnxruntime: pip install onnxruntime") from error
    try:
        return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common type
        raise InputError(f"{file} can't be loaded: {' '.join(str(error).split())[:200]}") from error
