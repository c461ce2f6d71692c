"""Reads the few-shot images from a file (DATASET.FEWSHOT_FILE) instead of drawing them at random.

`FewShotDataset.select` calls `pick_listed`. The file is the fewshot.json of a run, or a cache file (.pkl) of the
original code. The paths in the file may be absolute, and may come from another machine.
"""

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import TypeVar

from dassl.data.datasets import Datum
from dassl.utils import InputError
from datasets._lists import file_path, read_fewshot_paths

Parts = tuple[str, ...]
D = TypeVar("D", bound=Datum)


def pick_listed(path: str, items: list[D], split: str, subsampled: bool, root: str) -> list[D]:
    """Return the `items` that the file at `path` lists under `split`, in the file's order.

    Args:
        split: "train" or "val".
        subsampled: True if `items` holds only the base or only the new classes. The file may then list images that
            aren't in `items`.
        root: folder to which the paths in a run's file are relative.

    Raises:
        InputError: if the file can't be read; if it lists images that aren't in `items`, although `subsampled` is
            False; if a listed path could mean several images; or if a class has no image in the file.
    """
    listed = read_fewshot_paths(path, split)
    finder = _Finder(items, root)
    found = [(name, finder.find(file_path(name))) for name in listed]
    for name, matches in found:
        if len(matches) > 1:
            paths = " and ".join(items[index].impath for index in matches[:2])
            raise InputError(f"{path} (DATASET.FEWSHOT_FILE) lists {name}, which could be {paths}")
    picks = [items[matches[0]] for _, matches in found if matches]
    if len(picks) < len(listed) and not subsampled:
        raise InputError(
            f"{path} (DATASET.FEWSHOT_FILE) lists {len(listed) - len(picks)} {split} images that aren't in the data set"
        )
    lost = {item.label for item in items} - {item.label for item in picks}
    if lost and (listed or split == "train"):
        shown = f"{sorted(lost)[:5]}" + (" ..." if len(lost) > 5 else "")
        raise InputError(f"{path} (DATASET.FEWSHOT_FILE) lists no {split} images for the labels {shown}")
    return picks


class _Finder:
    """Finds the images that a path from another machine may mean."""

    def __init__(self, items: Sequence[Datum], root: str):
        self.parts = [PurePath(os.path.relpath(item.impath, root)).parts for item in items]
        self.exact = {parts: index for index, parts in enumerate(self.parts)}
        self.by_end: dict[Parts, list[int]] = {}
        for index, parts in enumerate(self.parts):
            self.by_end.setdefault(parts[-2:], []).append(index)
        self.root = root

    def find(self, path: str) -> list[int]:
        """Return the indices of the images that `path` may mean.

        If the path relative to `root` is that of an image, it means this image. Otherwise, the folders of the other
        machine are unknown, so a path means the images with which it shares the most parts at its end: at least the
        class folder and the file name. A relative path must also end with the image's whole path, or the other way
        round.
        """
        inside = os.path.relpath(path, self.root) if os.path.isabs(path) else os.path.normpath(path)
        parts = PurePath(inside).parts
        if parts in self.exact:
            return [self.exact[parts]]
        parts = PurePath(path).parts
        near = {index: _shared(parts, self.parts[index]) for index in self.by_end.get(parts[-2:], [])}
        if not os.path.isabs(path):
            near = {index: n for index, n in near.items() if n == min(len(parts), len(self.parts[index]))}
        most = max(near.values(), default=0)
        return [index for index, n in near.items() if n == most]


def _shared(first: Parts, second: Parts) -> int:
    """Return the number of equal parts at the ends of two paths."""
    count = 0
    while count < min(len(first), len(second)) and first[-1 - count] == second[-1 - count]:
        count += 1
    return count
