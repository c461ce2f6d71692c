"""Rebuilds a trained method from the folder of its run. The data set isn't needed."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dassl.engine.build import get_trainer
from dassl.utils import InputError, load_checkpoint
from dassl.utils.files import saved_epochs
from dassl.utils.torchtools import BEST
from trainers.common.backbone import cast_weights, load_backbone
from trainers.common.checkpoint import learned_tensors, note_trained_classes, trained_classes
from trainers.common.method import Method
from trainers.common.options import run_config
from trainers.common.trainer import PromptTrainer


def load_method(
    folder: str | Path, classnames: Sequence[str] | None = None, device: str | torch.device = "cpu"
) -> Method:
    """Load the trained method of the run in `folder`. The method is in evaluation mode, and maps images to logits.

    Args:
        classnames: names of the classes to distinguish, which may be new classes. None: the training classes.

    Raises:
        InputError: the folder holds no trained prompt method; a part of the method has no checkpoint; the checkpoints
            store no class names, and `classnames` isn't given; or the method can't classify new classes.
    """
    folder, device = Path(folder), torch.device(device)
    cfg = run_config(folder)
    trainer = get_trainer(cfg.TRAINER.NAME)
    if not issubclass(trainer, PromptTrainer):
        raise InputError(f"{folder} was trained by {cfg.TRAINER.NAME}, which isn't a subclass of PromptTrainer")
    files = _newest_checkpoints([folder / name for name in trainer.checkpoints], cfg.TEST.FINAL_MODEL == "best_val")
    if not files:
        raise InputError(f"{folder} has no checkpoint of {cfg.TRAINER.NAME}")
    checkpoints = {file.parent.name: load_checkpoint(file) for file in files}
    first = next(iter(checkpoints.values()))
    trained = trained_classes(first)
    names = trained if classnames is None else trainer.from_names(classnames)
    if names is None:
        raise InputError(f"the checkpoints in {folder} don't store the class names. Pass them as `classnames`")
    clip = load_backbone(cfg).to(device)
    cast_weights(clip, trainer.read_options(cfg).PREC, device)
    method = trainer.build_method(cfg, clip, names, first.get("template", "a photo of a {}."))
    modules = dict(method.named_modules())
    for name, part in trainer.checkpoints.items():
        if part in modules:
            if name not in checkpoints:
                raise InputError(f"{folder / name} has no checkpoint, but other parts of the method have one")
            tensors = learned_tensors(checkpoints[name], modules[part], method, folder / name)
            modules[part].load_state_dict(tensors)
    note_trained_classes(method, trained, default=True, source=folder)
    return method.to(device).eval()


def _newest_checkpoints(folders: Sequence[Path], prefers_best: bool) -> list[Path]:
    """Skip folders without checkpoints, and return one checkpoint from each of the other folders.

    The returned checkpoints are from the last epoch for which all of these folders have a checkpoint. If there is no
    such epoch, return [].

    Args:
        prefers_best: True: prefer the checkpoints that are best on the validation images. They are returned if each of
            these folders has such a checkpoint.
    """
    folders = [folder for folder in folders if any(folder.glob("*.tar*"))]
    best = [folder / BEST for folder in folders]
    if prefers_best and all(file.is_file() for file in best):
        return best
    saved = [saved_epochs(folder) for folder in folders]
    common = set.intersection(*map(set, saved)) if saved else set()
    return [files[max(common)] for files in saved] if common else []
