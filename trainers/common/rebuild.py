"""Rebuilds a trained method from the folder of its run. The data set isn't needed."""

from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

from dassl.engine.build import get_trainer
from dassl.engine.resume import Loaded, load_matching
from dassl.utils import InputError
from dassl.utils.checkpoint_files import BEST, saved_epochs
from trainers.common.backbone import cast_weights, load_backbone
from trainers.common.checkpoint import learned_tensors, note_trained_classes, trained_classes
from trainers.common.method import ClassNames, Method
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
    cfg = run_config(folder)
    names = None if classnames is None else prompt_trainer(cfg, folder).from_names(classnames)
    return rebuild_method(cfg, folder, names, device=device)


def prompt_trainer(cfg: CfgNode, folder: str | Path) -> type[PromptTrainer]:
    """Return the trainer of the run in `folder`. Raises InputError if its method can't be rebuilt from a folder."""
    trainer = get_trainer(cfg.TRAINER.NAME)
    if not issubclass(trainer, PromptTrainer):
        raise InputError(f"{folder} was trained by {cfg.TRAINER.NAME}, which isn't a subclass of PromptTrainer")
    return trainer


def rebuild_method(
    cfg: CfgNode,
    folder: str | Path,
    classes: ClassNames | None = None,
    template: str | None = None,
    device: str | torch.device = "cpu",
    precision: str = "",
) -> Method:
    """Build the method that `cfg` describes, and load its parameters from the newest checkpoints in `folder`.

    A trainer that learns nothing has no checkpoints. Then `classes` must be given.

    Args:
        cfg: the config of the training. `folder` need not contain it.
        classes: classes or tasks to distinguish. None: those that the checkpoints store.
        template: the zero-shot prompt. None: the one that the checkpoints store.
        precision: precision to use instead of PREC; "": PREC.

    Raises:
        InputError: see `load_method`.
    """
    folder, device = Path(folder), torch.device(device)
    trainer = prompt_trainer(cfg, folder)
    loaded = _newest_checkpoints([folder / name for name in trainer.checkpoints], cfg.TEST.FINAL_MODEL == "best_val")
    if trainer.checkpoints and not loaded:
        raise InputError(f"{folder} has no checkpoint of {cfg.TRAINER.NAME}")
    checkpoints = {file.parent.name: checkpoint for file, checkpoint in loaded}
    first = next(iter(checkpoints.values()), {})
    trained = trained_classes(first)
    names = trained if classes is None else classes
    if names is None:
        raise InputError(f"{folder} has no checkpoint with class names. Pass them as `classnames`")
    clip = load_backbone(cfg).to(device)
    cast_weights(clip, precision or trainer.read_options(cfg).PREC, device)
    if template is None:
        template = first.get("template", "a photo of a {}.")
    method = trainer.build_method(cfg, clip, names, template)
    note_trained_classes(method, trained, default=True, source=folder)
    modules = dict(method.named_modules())
    for name, part in trainer.checkpoints.items():
        if part in modules:
            if name not in checkpoints:
                raise InputError(f"{folder / name} has no checkpoint, but other parts of the method have one")
            tensors = learned_tensors(checkpoints[name], modules[part], method, folder / name)
            modules[part].load_state_dict(tensors)
    return method.to(device).eval()


def _newest_checkpoints(folders: Sequence[Path], prefers_best: bool) -> Loaded:
    """Skip folders without checkpoints, and return the path and the content of one checkpoint from each other folder.

    The checkpoints are of the same epoch. If there is no such epoch, return [].

    Args:
        prefers_best: True: prefer the checkpoints that are best on the validation images.
    """
    folders = [folder for folder in folders if any(folder.glob("*.tar*"))]
    if not folders:
        return []
    has_best = all((folder / BEST).is_file() for folder in folders)
    if not (prefers_best and has_best) and not set.intersection(*(set(saved_epochs(folder)) for folder in folders)):
        return []
    return load_matching(folders, None, prefers_best and has_best)
