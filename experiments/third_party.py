"""Runs trainers that were written for the original code: their config keys, their weights and their errors.

`config.py` calls `extend` for the flag --extend-cfg, and `execute.py` trains within `plain_surface`.
"""

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from yacs.config import CfgNode

from dassl.config import Setting, keys
from dassl.utils.errors import InputError
from dassl.utils.plugins import read_function


def extend(cfg: CfgNode, path: str) -> set[str]:
    """Call the function `extend_cfg(cfg)` of a user's file, which declares more config keys.

    The original code declares the config keys of a trainer in train.py. So `path` may be such a train.py.

    Returns:
        The keys that clash: they were in `cfg` before, and are now missing or have another type.

    Raises:
        InputError: the file can't be read, or the function fails.
    """
    before = {key: type(value) for key, value in keys(cfg)}
    function = read_function(path, "extend_cfg")
    try:
        function(cfg)
    except Exception as error:  # a user's function can raise anything
        raise InputError(f"extend_cfg in {path} failed: {type(error).__name__}: {error}") from error
    after = {key: type(value) for key, value in keys(cfg)}
    return {key for key, kind in before.items() if after.get(key) is not kind}


def without_clashes(settings: Mapping[str, Setting], clashes: set[str], configs: Path) -> dict[str, Setting]:
    """Leave out the settings of this project's files whose keys a user's `extend_cfg` declares in another way.

    Settings of the user's own files stay, so a wrong value in them is an error.

    Args:
        settings: the settings of a config file.
        clashes: the keys that `extend` returned.
        configs: the folder of this project's config files.
    """
    ours = [key for key, setting in settings.items() if configs in setting.file.resolve().parents]
    left_out = [key for key in ours if key in clashes]
    for key in left_out:
        print(f"{key} of {settings[key].file} isn't used, because --extend-cfg declares this key in another way")
    return {key: setting for key, setting in settings.items() if key not in left_out}


@contextlib.contextmanager
def plain_surface(cfg: CfgNode) -> Iterator[None]:
    """A context manager in which OpenAI's functions, such as `clip.load`, find the weights at MODEL.BACKBONE.PATH.

    Raises:
        InputError: the trainer calls CLIP as only a changed copy of CLIP can be called.
    """
    from clip.download import replaced
    from clip.patched import PatchedBackboneError

    try:
        with replaced(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PATH):
            yield
    except PatchedBackboneError as error:
        raise InputError(f"the trainer {cfg.TRAINER.NAME} can't run here: {error}. {_advice(cfg, error)}") from error


def _advice(cfg: CfgNode, error: Exception) -> str:
    """Return what to do instead of a trainer that needs a changed copy of CLIP."""
    from dassl.engine import TRAINER_REGISTRY
    from trainers.common.original_nodes import ORIGINAL_NODES
    from trainers.common.trainer import PromptTrainer

    name = cfg.TRAINER.NAME
    registered = {key: TRAINER_REGISTRY.get(key) for key in TRAINER_REGISTRY.registered_names()}
    ours = sorted(key for key, cls in registered.items() if issubclass(cls, PromptTrainer))
    if name.upper() in ORIGINAL_NODES and name not in ours:
        file = sys.modules[registered[name].__module__].__file__
        return f"This project has a trainer {name} of its own: restore the project's file {file}"
    words = re.findall(r"\w+", str(error))
    same = [key for key in ours if key.lower() in name.lower() or key in words]
    if same:
        return f"Use this project's trainer of the same method: --trainer {max(same, key=len)}"
    return f"This project's trainers are: {', '.join(ours)}"
