"""Rebuilds a trained method from the folder of its run. The data set isn't needed."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dassl.engine.build import get_trainer
from dassl.utils import InputError, load_checkpoint
from trainers.common.backbone import cast_weights, load_backbone
from trainers.common.checkpoint import learned_tensors, trained_classes
from trainers.common.method import Method
from trainers.common.options import run_config
from trainers.common.trainer import PromptTrainer


def load_method(
    folder: str | Path, classnames: Sequence[str] | None = None, device: str | torch.device = "cpu"
) -> Method:
    """Load the method that the run in `folder` trained, in evaluation mode. Its `forward` maps images to logits.

    Args:
        classnames: names of the classes to distinguish, which may be new ones. None: the training classes.

    Raises:
        InputError: the folder holds no trained prompt method; or its checkpoints store no class names, and `classnames`
            isn't given.
    """
    folder, device = Path(folder), torch.device(device)
    cfg = run_config(folder)
    trainer = get_trainer(cfg.TRAINER.NAME)
    if not issubclass(trainer, PromptTrainer):
        raise InputError(f"{folder} was trained by {cfg.TRAINER.NAME}, which isn't a subclass of PromptTrainer")
    parts = {
        part: _checkpoint(folder / name, cfg.TEST.FINAL_MODEL == "best_val")
        for name, part in trainer.checkpoints.items()
    }
    found = {part: (path, load_checkpoint(path)) for part, path in parts.items() if path is not None}
    if not found:
        raise InputError(f"{folder} has no checkpoint of {cfg.TRAINER.NAME}")
    checkpoint = next(iter(found.values()))[1]
    trained = trained_classes(checkpoint)
    names = trained if classnames is None else trainer.from_names(classnames)
    if names is None:
        raise InputError(f"the checkpoints in {folder} don't store the class names. Pass them as `classnames`")
    clip = load_backbone(cfg).to(device)
    cast_weights(clip, trainer.read_options(cfg).PREC, device)
    method = trainer.build_method(cfg, clip, names, checkpoint.get("template", "a photo of a {}."))
    modules = dict(method.named_modules())
    for part, (path, content) in found.items():
        if part in modules:
            modules[part].load_state_dict(learned_tensors(content, modules[part], method, path))
    method.has_new_classes = trained is not None and list(names) != trained
    return method.to(device).eval()


def _checkpoint(folder: Path, prefers_best: bool) -> Path | None:
    """Return the path of the last epoch's checkpoint in a folder. None if the folder has no checkpoint.

    Args:
        prefers_best: return the checkpoint that is best on the validation images instead, if it exists.
    """
    best = folder / "model-best.pth.tar"
    if prefers_best and best.is_file():
        return best
    epochs = [path for path in folder.glob("model.pth.tar-*") if path.name.rpartition("-")[2].isdigit()]
    return max(epochs, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
