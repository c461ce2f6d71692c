"""The fingerprint of a run's data and weights, and the check that neither has changed since the run was started.

`execute.py` stores a fingerprint when a run starts, and compares it when the run is resumed or asked for again. A
fingerprint has three hashes: of the images' names, labels and splits; of the images' contents; and of the weights'
contents. Paths are relative, so data that was moved or copied is still the same.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from yacs.config import CfgNode

from dassl.engine.run_folder import FINGERPRINT, read_fingerprint
from dassl.utils.checksums import with_checksum
from dassl.utils.errors import InputError
from dassl.utils.file_hashes import file_hashes
from dassl.utils.files import write_json

if TYPE_CHECKING:
    from dassl.data.datasets import DatasetBase

Fingerprint = dict[str, str]
#: {entry of a fingerprint: what has changed if its hash is another one}
_CHANGES = {
    "images": "images were added, removed, renamed, or moved to another class or split",
    "contents": "the contents of images changed",
    "weights": "the weights of the backbone or the initial weights changed",
}


class Sources(NamedTuple):
    """The files that a run learns from or tests."""

    images: dict[str, tuple[str, int, str]]  # {absolute path: (splits, label, class name)}
    weights: list[str]  # absolute paths
    root: str  # folder that contains all images

    def is_absent(self) -> bool:
        """Return whether none of the images exists any more."""
        return not any(map(os.path.exists, self.images))


def sources_of(cfg: CfgNode, dataset: "DatasetBase") -> Sources:
    """Return the images and the weight files of the run with this config.

    A run that only tests has only the images of the tested split. A run without a seed draws other images for
    training at each start, so only the test images are returned.
    """
    splits = {"test": dataset.test}
    if cfg.TEST.EVAL_ONLY:
        splits = {"val": dataset.val or dataset.test} if cfg.TEST.SPLIT == "val" else splits
    elif cfg.SEED >= 0:
        splits |= {"train": dataset.train_x, "unlabelled": dataset.train_u, "val": dataset.val}
    images: dict[str, tuple[str, int, str]] = {}
    for split, items in sorted(splits.items()):
        for item in items or []:
            path = os.path.abspath(item.impath)
            before = images.get(path, ("",))[0]
            images[path] = (f"{before} {split}", item._label, item.classname)
    root = os.path.commonpath({os.path.dirname(path) for path in images}) if images else ""
    return Sources(images, weight_files(cfg), root)


def weight_files(cfg: CfgNode) -> list[str]:
    """Return the paths of the weight files in the config. Weights that are downloaded by name aren't included."""
    from clip import mini

    backbone = cfg.MODEL.BACKBONE
    named = backbone.PATH or (str(mini.FILE) if backbone.NAME == mini.NAME else "")
    paths = [Path(os.path.abspath(os.path.expanduser(path))) for path in (named, cfg.MODEL.INIT_WEIGHTS) if path]
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [str(file) for file in files if not file.is_dir()]


def fingerprint(sources: Sources) -> Fingerprint:
    """Return the fingerprint of the current files. Files that have changed are read."""
    hashes = file_hashes(list(sources.images), sources.root)
    weights = file_hashes(sources.weights, "weights")
    names = {path: os.path.relpath(path, sources.root).replace(os.sep, "/") for path in sources.images}
    return {
        "images": _digest(sorted((names[path], *facts) for path, facts in sources.images.items())),
        "contents": _digest(sorted((names[path], digest) for path, digest in hashes.items())),
        "weights": _digest([weights[path] for path in sources.weights]),
    }


def _digest(content: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(content)).encode()).hexdigest()


def store(folder: Path, found: Fingerprint) -> None:
    """Write a run's fingerprint to its folder."""
    write_json(with_checksum(found), folder / FINGERPRINT)


def check_unchanged(folder: Path, before: Fingerprint | None, now: Fingerprint) -> None:
    """Raise InputError if the data or the weights of the run in `folder` have changed.

    `before` is the fingerprint with which the run was started. Older runs have none, so nothing is compared.
    """
    changed = [key for key in _CHANGES if before and key in now and before.get(key, "") != now[key]]
    changes = [_CHANGES[key] for key in changed if (key, "images" in changed) != ("contents", True)]
    if changes:
        raise InputError(
            f"{folder} is the folder of a run with other files: since it was started, {', and '.join(changes)}. "
            "Restore them, choose another --output-dir, or delete the folder to run again"
        )


def check_resumed(folder: Path, now: Fingerprint) -> None:
    """Raise InputError if the data or the weights have changed since the unfinished run in `folder` was started."""
    before = None
    try:
        before = read_fingerprint(folder)
    except InputError as error:
        print(f"Warning: {error}, so a change of the data or the weights can't be detected")
    check_unchanged(folder, before, now)
