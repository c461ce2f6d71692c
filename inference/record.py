"""The typed content of `classifier.json`, which says what a classifier needs besides its weights.

A training writes the file to its folder (`write_run_record`), and an export writes it beside the exported models. So a
classifier knows its class names and its preprocessing without the training data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from dassl.utils.checksums import with_checksum
from dassl.utils.errors import ClassNameError, InputError
from dassl.utils.files import write_json
from dassl.utils.typed import read_json_as

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from trainers.common.method import ClassNames

#: Files of an exported classifier. A run's folder has only RECORD.
RECORD, ONNX, TORCH, PROMPTS = "classifier.json", "model.onnx", "model.pt2", "prompts.safetensors"
SCRIPT, CARD = "classifier.py", "README.md"
EXPORTED = (RECORD, ONNX, TORCH, PROMPTS, SCRIPT, CARD)

Side = Annotated[int, Meta(ge=1, le=2**14)]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
Step = Literal["normalize", "instance_norm"]


class Preprocessing(Struct, frozen=True):
    """How an image becomes the tensor (3, height, width) that the model takes.

    The image is resized so that its short side is `max(size)`. Then the centre is cropped, the pixels are scaled to
    0..1, and `steps` are applied.
    """

    size: Annotated[list[Side], Meta(min_length=2, max_length=2)]  # height and width
    interpolation: Interpolation
    mean: Annotated[list[float], Meta(min_length=3, max_length=3)]  # of red, green and blue
    std: Annotated[list[float], Meta(min_length=3, max_length=3)]
    steps: list[Step]

    @classmethod
    def of(cls, cfg: "CfgNode") -> "Preprocessing":
        """Return the preprocessing of a run's test images. Raises InputError if INPUT.NO_TRANSFORM is set."""
        images = cfg.INPUT
        if images.NO_TRANSFORM:
            raise InputError("INPUT.NO_TRANSFORM is set, so it isn't known how to prepare an image")
        steps: list[Step] = [name for name in images.TRANSFORMS if name in get_args(Step)]  # others are for training
        mean, std = list(images.PIXEL_MEAN), list(images.PIXEL_STD)
        return cls(list(images.SIZE), images.INTERPOLATION, mean, std, steps)

    def with_mean(self) -> "Preprocessing":
        """Return an equal preprocessing whose only step is "normalize". Raises InputError if there is none."""
        if "instance_norm" in self.steps:
            raise InputError("the transform instance_norm can't be exported. predict.py can use the run")
        return self if self.steps else replace(self, mean=[0.0] * 3, std=[1.0] * 3, steps=["normalize"])


class TaskClasses(Struct, frozen=True):
    """A task of a classifier for several tasks. The classes of all tasks follow each other in `classes`."""

    name: str
    n_classes: Annotated[int, Meta(ge=1)]


class ClassifierRecord(Struct, frozen=True, kw_only=True):
    """What runs and exported classifiers both record."""

    classes: Annotated[list[str], Meta(min_length=1)]  # in the order of the logits
    tasks: list[TaskClasses] = []  # [] unless the trainer learns several tasks together
    template: str  # the zero-shot prompt, with {} in place of the class name
    trainer: str
    clip: str  # name of the CLIP, or name of the file with its weights
    preprocessing: Preprocessing

    @property
    def labels(self) -> list[str]:
        """The names to show for the classes. With more than one task, a name starts with the name of the task."""
        if len(self.tasks) < 2:
            return self.classes
        tasks = [task.name for task in self.tasks for _ in range(task.n_classes)]
        return [f"{task}: {name}" for task, name in zip(tasks, self.classes, strict=True)]


class RunRecord(ClassifierRecord, frozen=True, kw_only=True):
    """`classifier.json` in the folder of a run."""

    #: Folder in which the run was started. Relative paths in config.yaml are relative to this folder.
    working_folder: str


class ExportedRecord(ClassifierRecord, frozen=True, kw_only=True):
    """`classifier.json` in the folder of an exported classifier. It names no path of the machine.

    If the run has several tasks, the class names start with the names of their tasks.
    """

    run: str  # data set, trainer, config and seed
    dataset: str
    accuracy: float | None  # on the run's test images, in percent; None: the run has no result
    n_test: int  # number of these images
    precision: Literal["fp32", "fp16"]
    licence: str  # of the CLIP's weights


def split_tasks(classes: "ClassNames") -> tuple[list[str], list[TaskClasses]]:
    """Return the names of all classes, and the tasks that they belong to ([] if `classes` holds no tasks)."""
    names: list[str] = []
    tasks: list[TaskClasses] = []
    for item in classes:
        if isinstance(item, str):
            names.append(str(item))
        else:
            names += map(str, item.classnames)
            tasks.append(TaskClasses(str(item.name), len(item.classnames)))
    return names, tasks


def run_record(cfg: "CfgNode", classes: "ClassNames", template: str, working_folder: Path) -> RunRecord:
    """Return the record of a run with the config `cfg`."""
    names, tasks = split_tasks(classes)
    backbone = cfg.MODEL.BACKBONE
    return RunRecord(
        classes=names,
        tasks=tasks,
        template=str(template),
        trainer=cfg.TRAINER.NAME,
        clip=Path(backbone.PATH).name if backbone.PATH else backbone.NAME,
        preprocessing=Preprocessing.of(cfg),
        working_folder=str(working_folder),
    )


def write_run_record(cfg: "CfgNode", classes: "ClassNames", template: str) -> None:
    """Write `classifier.json` to the run's folder. A run without a known preprocessing gets no such file."""
    if not cfg.INPUT.NO_TRANSFORM:
        record = run_record(cfg, classes, template, Path.cwd())
        write_json(with_checksum(msgspec.to_builtins(record)), Path(cfg.OUTPUT_DIR) / RECORD)


R = TypeVar("R", bound=Struct)


def read_record(folder: Path, cls: type[R]) -> R:
    """Return the content of `classifier.json` in `folder`. Raises InputError if it is damaged or has a wrong field."""
    return read_json_as(folder / RECORD, cls, "description of a classifier")


def checked_classes(names: Sequence[str]) -> list[str]:
    """Return the class names of a user. Raises ClassNameError if there is none, or if one is empty or occurs twice."""
    classes = [name.strip() for name in names]
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if not classes or "" in classes or repeated:
        reason = f"{repeated[0]!r} occurs twice" if repeated and repeated[0] else "a name is empty"
        raise ClassNameError(f"the class names can't be used, because {reason}")
    return classes
