"""Exports the classifier of a run as files that need nothing of this project.

`export` writes a folder with the model in two formats (torch.export and ONNX), its class names and preprocessing, the
learned prompts, a script that classifies images, and a model card. The text features are constants of the model, so
the text tower isn't exported.
"""

import contextlib
import importlib.util
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors.torch import save
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from yacs.config import CfgNode

from clip.model import cast_towers
from dassl.engine.run_folder import RESULT, dataset_label, read_result
from dassl.utils import InputError, write_atomically, write_json, write_text
from dassl.utils.files import write_bytes
from inference.card import licence_of, model_card
from inference.models import LoadedRun, OnnxModel, load_run
from inference.record import (
    CARD,
    EXPORTED,
    ONNX,
    PROMPTS,
    RECORD,
    SCRIPT,
    TORCH,
    ExportedRecord,
    Preprocessing,
    RunRecord,
)
from trainers.common.method import Method

OLDEST_TORCH = (2, 6)  # older versions can't convert a traced program to ONNX
#: Largest difference between the logits of an exported model and of the run, relative to the largest logit.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}


class ExportedModel(nn.Module):
    """The part of a method that is exported. Maps images to logits and normalised image features."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method
        # The CLIP isn't a submodule of the method. Its text tower must not be exported, so only these are registered.
        self.visual, self.logit_scale = method.clip.visual, method.clip.logit_scale

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.method.inference(images)
        return output.logits, output.image_features


class Exported(NamedTuple):
    """What `export` has written."""

    folder: Path
    record: ExportedRecord
    differences: dict[str, float]  # {file: largest difference of its logits, relative to the largest logit}


def export(
    run: str | Path, folder: str | Path, classes: Sequence[str] | None = None, precision: str = "fp32"
) -> Exported:
    """Export the classifier of the run in the folder `run` to `folder`, and compare the logits of both.

    Args:
        folder: folder to write to. It must be empty, missing or an earlier export.
        classes: names of other classes to distinguish, for methods that can. None: the classes of the run.
        precision: of the image tower's weights, fp32 or fp16. The images and the logits are float32 in both cases.

    Raises:
        InputError: the run can't be loaded or exported; or a package is missing; or `folder` holds other files; or the
            logits of an exported model differ from the run's.
    """
    folder = Path(folder)
    check_folder(folder)
    loaded = load_run(run, classes, precision="fp32")
    refuse(loaded.method, loaded.cfg)
    images = torch.randn(2, 3, *loaded.record.preprocessing.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _quiet():
        expected = loaded.method(images)  # also fills the cache of text features
        record = _record(Path(run), loaded.cfg, loaded.record, precision, classes is None)
        (folder / RECORD).unlink(missing_ok=True)  # until it is written again, the folder isn't a classifier
        program = _trace_and_write(loaded, images, precision, folder)
    differences = {}
    for name, logits_of in ((TORCH, _torch_logits(program)), (ONNX, _onnx_logits(folder / ONNX))):
        # A batch of another size than the traced one shows that the size is dynamic.
        difference = max(_difference(logits_of(images[:n]), expected[:n]) for n in (2, 1))
        if not difference <= TOLERANCES[precision]:
            raise InputError(f"{folder / name} can't be used: its logits differ from the run's by {difference:.1e}")
        differences[name] = difference
    learned = {name: tensor.detach().cpu().contiguous() for name, tensor in loaded.method.state_dict().items()}
    write_bytes(save(learned, metadata={"trainer": record.trainer, "clip": record.clip}), folder / PROMPTS)
    shutil.copyfile(Path(__file__).with_name("standalone.py"), folder / SCRIPT)
    write_text(model_card(record), folder / CARD)
    write_json(msgspec.to_builtins(record), folder / RECORD)
    return Exported(folder, record, differences)


def check_folder(folder: Path) -> None:
    """Raise InputError if a folder holds other files than those of an earlier export."""
    ours = {*EXPORTED, "__pycache__"}
    others = {path.name for path in folder.iterdir()} - ours if folder.is_dir() else set()
    if others or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} (--to) isn't empty and isn't an earlier export. Choose another folder")


def torch_is_new_enough() -> bool:
    """Return whether this PyTorch can export a method."""
    return tuple(map(int, torch.__version__.split(".")[:2])) >= OLDEST_TORCH


def refuse(method: Method, cfg: CfgNode) -> None:
    """Raise InputError if a method can't be exported, with the reason."""
    name = cfg.TRAINER.NAME
    if method.text_depends_on_image:
        raise InputError(
            f"{name} can't be exported, because its text features depend on the image. predict.py can use the run"
        )
    Preprocessing.of(cfg).with_mean()
    if not torch_is_new_enough():
        raise InputError(f"an export needs torch 2.6 or newer, but this is torch {torch.__version__}")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f'an export needs {package}: pip install -e ".[export]" in the project')


def trace(method: Method, images: torch.Tensor, precision: str = "fp32") -> ExportedProgram:
    """Return the program that maps images to logits and features, for any batch size.

    The method must have been called before, so that its text features are cached. They become constants.
    """
    method.freeze()
    if precision == "fp16":
        cast_towers(method.clip, torch.float16)
    program = torch.export.export(ExportedModel(method), (images,), dynamic_shapes={"images": {0: Dim("batch")}})
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # it names paths of this machine
    return program


def _trace_and_write(loaded: LoadedRun, images: torch.Tensor, precision: str, folder: Path) -> ExportedProgram:
    """Trace the method, and write both models. Raises InputError if torch can't trace or convert the method."""
    try:
        program = trace(loaded.method, images, precision)
        _write_models(program, folder)
    except OSError:
        raise
    except Exception as error:  # torch's exporters raise many types of errors
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"{loaded.record.trainer} can't be exported, because torch can't trace it: {reason}"
        ) from error
    return program


def _write_models(program: ExportedProgram, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()  # torch.export.save refuses file names that don't end in .pt2, as unfinished files do
    torch.export.save(program, content)
    write_bytes(content.getbuffer(), folder / TORCH)
    converted = torch.onnx.export(
        program, (), input_names=["images"], output_names=["logits", "features"], dynamo=True, verbose=False
    )
    assert converted is not None  # it is None only if dynamo is False
    for node in converted.model.graph.all_nodes():
        node.metadata_props.clear()  # they may name paths of this machine
    with write_atomically(folder / ONNX) as unfinished:
        converted.save(str(unfinished), external_data=False)


def _torch_logits(program: ExportedProgram) -> Callable[[torch.Tensor], torch.Tensor]:
    module = program.module()
    return lambda images: module(images)[0]


def _onnx_logits(file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    model = OnnxModel(file)
    return lambda images: model(images).logits


def _difference(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def _record(run: Path, cfg: CfgNode, record: RunRecord, precision: str, own_classes: bool) -> ExportedRecord:
    result = read_result(run) if own_classes and (run / RESULT).is_file() else {}
    return ExportedRecord(
        classes=record.labels,
        template=record.template,
        trainer=record.trainer,
        clip=record.clip,
        preprocessing=record.preprocessing.with_mean(),
        run=f"{cfg.TRAINER.NAME} on {dataset_label(cfg)}, config {cfg.TRAINER.CONFIG}, seed {cfg.SEED}",
        dataset=dataset_label(cfg),
        accuracy=result.get("accuracy"),
        n_test=result.get("n_total", 0),
        precision="fp16" if precision == "fp16" else "fp32",
        licence=licence_of(cfg),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A context manager that hides the progress messages of the exporters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
