"""`Classifier` classifies new images with the prompts of a run, or with an exported classifier."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.transforms import build_transform
from dassl.engine.run_folder import CONFIG
from dassl.utils import InputError, choose_device, cpu_cores, read_image
from inference import hub
from inference.models import Answer, MethodModel, Model, OnnxModel, load_run
from inference.record import ONNX, RECORD, ClassifierRecord, ExportedRecord, Preprocessing, read_record

#: One image: a path, or a PIL image.
AnyImage = str | Path | Image.Image


class Prediction(NamedTuple):
    """The best classes of an image, best first."""

    image: str  # the path; "" for a PIL image
    classes: list[str]
    scores: list[float]  # probabilities, from 0 to 1


class Classifier:
    """Classifies images.

        classifier = Classifier.load("output/few_shot/...")    # a run, an exported classifier or hf-hub:OWNER/NAME
        classifier.predict(["a.jpg", "b.jpg"], topk=3)[0].classes[0]

    Attributes:
        record: class names, preprocessing, and what else is known about the classifier.
    """

    def __init__(self, record: ClassifierRecord, model: Model):
        self.record = record
        self._model = model
        self._transform = make_transform(record.preprocessing)

    @classmethod
    def from_run(
        cls, folder: str | Path, classes: Sequence[str] | None = None, device: str | torch.device | None = None
    ) -> Self:
        """Rebuild the classifier of a run from its output folder. The training data isn't needed.

        Args:
            classes: names of other classes to distinguish, for methods that can. None: the classes of the run.
            device: such as "cpu" or "cuda:0". None: the fastest device of this machine.

        Raises:
            InputError: the folder holds no finished training of a trainer of this project; or its method can't classify
                other classes.
        """
        if not (Path(folder) / CONFIG).is_file():
            below = next(Path(folder).glob(f"*/**/{CONFIG}"), None)
            hint = f". A run below it is {below.parent}" if below else ""
            raise InputError(
                f"{folder} is neither the folder of a run nor an exported classifier, because it has no {CONFIG}{hint}"
            )
        on = checked_device(device)
        loaded = load_run(folder, classes, on)
        return cls(loaded.record, MethodModel(loaded.method, on))

    @classmethod
    def from_export(cls, folder: str | Path) -> Self:
        """Load a classifier that export.py has written. ONNX Runtime runs it on the CPU.

        Raises InputError if a file is missing or damaged, or if the package onnxruntime is missing.
        """
        record = read_record(Path(folder), ExportedRecord)
        return cls(record, OnnxModel(Path(folder) / ONNX))

    @classmethod
    def load(
        cls, source: str | Path, classes: Sequence[str] | None = None, device: str | torch.device | None = None
    ) -> Self:
        """Load a run's folder, the folder of an exported classifier, or hf-hub:OWNER/NAME (an exported classifier).

        Raises:
            InputError: see `from_run` and `from_export`; or `classes` is given for an exported classifier.
        """
        is_on_hub = str(source).startswith(hub.PREFIX)
        folder = hub.download(str(source).removeprefix(hub.PREFIX)) if is_on_hub else Path(source).expanduser()
        if not is_on_hub and not is_export(folder):
            return cls.from_run(folder, classes, device)
        if classes is not None:
            raise InputError(f"{source} is an exported classifier, whose classes are fixed. Use the folder of its run")
        return cls.from_export(folder)

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return self.record.labels

    @property
    def classes_are_fixed(self) -> bool:
        """Whether `load` refuses other class names: for exported classifiers, and for methods like the linear probe."""
        return self._model.classes_are_fixed

    def logits(self, images: AnyImage | Sequence[AnyImage], batch: int = 32) -> torch.Tensor:
        """Return the logits (n_images, n_classes), float32. Arguments and errors as in `predict`."""
        return torch.cat([answer.logits for answer in self._answers(images, batch)])

    def features(self, images: AnyImage | Sequence[AnyImage], batch: int = 32) -> torch.Tensor:
        """Return the normalised image features (n_images, embed_dim), float32. Arguments and errors as in `predict`."""
        return torch.cat([answer.features for answer in self._answers(images, batch)])

    def predict(self, images: AnyImage | Sequence[AnyImage], topk: int = 5, batch: int = 32) -> list[Prediction]:
        """Return a prediction for each image.

        Args:
            images: a path, a PIL image, or a list of these.
            topk: number of classes in a prediction; at most the number of all classes.
            batch: number of images that are computed at once.

        Raises:
            InputError: an image can't be read; or `topk` or `batch` is less than 1.
        """
        predictions = []
        for prediction in self.predict_readable(images, topk, batch):
            if isinstance(prediction, InputError):
                raise prediction
            predictions.append(prediction)
        return predictions

    def predict_readable(
        self, images: AnyImage | Sequence[AnyImage], topk: int = 5, batch: int = 32
    ) -> Iterator[Prediction | InputError]:
        """Yield a prediction for each image, or the error if the image can't be read. Arguments as in `predict`."""
        if topk < 1:
            raise InputError(f"topk must be at least 1, but it is {topk}")
        names, topk = self.classes, min(topk, len(self.classes))
        for chunk, tensors in self._batches(images, batch):
            readable = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
            logits: Iterator[torch.Tensor] = iter(())  # rows (n_classes,)
            if readable:
                logits = iter(self._model(torch.stack(readable)).logits)
            for image, tensor in zip(chunk, tensors, strict=True):
                if isinstance(tensor, InputError):
                    yield tensor
                    continue
                scores, indices = next(logits).softmax(-1).topk(topk)
                path = "" if isinstance(image, Image.Image) else str(image)
                yield Prediction(path, [names[index] for index in indices.tolist()], scores.tolist())

    def _answers(self, images: AnyImage | Sequence[AnyImage], batch: int) -> Iterator[Answer]:
        """Yield the model's answer for each batch. Raises InputError if an image can't be read."""
        for _, tensors in self._batches(images, batch):
            for tensor in tensors:
                if isinstance(tensor, InputError):
                    raise tensor
            yield self._model(torch.stack([tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]))

    def _batches(
        self, images: AnyImage | Sequence[AnyImage], batch: int
    ) -> Iterator[tuple[list[AnyImage], list[torch.Tensor | InputError]]]:
        """Yield batches of images, with a tensor (3, height, width) or an error for each image of the batch.

        Threads decode the images of a batch.
        """
        every = [images] if isinstance(images, str | Path | Image.Image) else list(images)
        if batch < 1:
            raise InputError(f"the batch size must be at least 1, but it is {batch}")
        with ThreadPoolExecutor(min(cpu_cores(), batch)) as threads:
            for start in range(0, len(every), batch):
                chunk = every[start : start + batch]
                yield chunk, list(threads.map(self._prepare, chunk))

    def _prepare(self, image: AnyImage) -> torch.Tensor | InputError:
        """Return an image as a tensor (3, height, width), or the error if it can't be read."""
        try:
            return self._transform(image.convert("RGB") if isinstance(image, Image.Image) else read_image(image))
        except InputError as error:
            return error


def make_transform(preprocessing: Preprocessing) -> Callable[[Image.Image], torch.Tensor]:
    """Return the function that maps a PIL image in RGB to a tensor (3, height, width)."""
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = tuple(preprocessing.size)
    cfg.INPUT.INTERPOLATION = preprocessing.interpolation
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(preprocessing.mean), list(preprocessing.std)
    transform = build_transform(cfg, is_train=False, choices=list(preprocessing.steps))
    assert transform is not None  # it is None only if INPUT.NO_TRANSFORM is set
    return transform


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an exported classifier, rather than a run."""
    return (folder / ONNX).is_file() or ((folder / RECORD).is_file() and not (folder / CONFIG).is_file())


def checked_device(name: str | torch.device | None) -> torch.device:
    """Return the device of this name. None: the fastest one. Raises InputError if this machine has no such device."""
    if name is None:
        return choose_device(use_cuda=True)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"the device {name} can't be used: {' '.join(str(error).split())[:150]}") from error
    return device
