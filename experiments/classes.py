"""Finds the Python class of a trainer or data set by name, even if the class isn't imported yet.

`config.py`, `checks.py` and `plan.py` call `TRAINERS.find(name)` and `DATASETS.find(name)`. If the class isn't imported
yet, the call returns an outline of the class. An outline has only the class's name and literal attributes, which are
read from the source file (`dassl/utils/outlines.py`). So an unknown name is reported before torch is imported.
"""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from dassl.utils.errors import unknown
from dassl.utils.outlines import Outline, read_class, registered_names
from dassl.utils.plugins import find, load_plugins


@dataclass(frozen=True)
class Plugins:
    """Describes a package whose modules are plugins, and the registry in which the plugins register their classes."""

    package: str  # name of the package
    module: str  # name of the module that defines the registry
    registry: str  # name of the registry in this module
    what: str  # noun for error texts, for example "trainer"
    attributes: tuple[str, ...]  # names of the class attributes that an outline has

    @property
    def folder(self) -> Path:
        """The package's folder, found through Python's import path."""
        spec = importlib.util.find_spec(self.package)
        locations = spec.submodule_search_locations if spec else None
        return Path(locations[0] if locations else self.package)

    def find(self, name: str) -> type:
        """Return the class called `name`, or its outline if the class isn't imported yet.

        Imports all plugins only if the outline can't be read from a source file. Raises InputError for an unknown name.
        """
        if name in self._imported():
            return getattr(sys.modules[self.module], self.registry).get(name)
        outline = self.outline(name)
        if outline:
            return outline.cls
        names = registered_names(self.folder, self.registry)
        if names is not None and name not in names:
            raise unknown(self.what, name, [*names, *self._imported()])
        importlib.import_module("torch")  # if torch is missing, fail here instead of once per plugin
        load_plugins(self.package)
        return find(getattr(importlib.import_module(self.module), self.registry), self.what, name)

    def outline(self, name: str) -> Outline | None:
        """Return the outline of the class called `name`, which is read from the class's source file.

        Returns None if no plugin defines the class, or if the class can't be read from its source file.
        """
        return read_class(self.folder, self.registry, name, self.attributes)

    def names(self) -> list[str]:
        """Return the sorted names of the imported classes and of the classes that are found in the source files."""
        return sorted({*(registered_names(self.folder, self.registry) or []), *self._imported()})

    def _imported(self) -> list[str]:
        module = sys.modules.get(self.module)
        return getattr(module, self.registry).registered_names() if module else []


TRAINERS = Plugins(
    "trainers",
    "dassl.engine.build",
    "TRAINER_REGISTRY",
    "trainer",
    ("node", "checkpoints", "default_config", "few_shot_config", "cross_dataset_config"),
)
DATASETS = Plugins(
    "datasets",
    "dassl.data.datasets.build",
    "DATASET_REGISTRY",
    "data set (DATASET.NAME)",
    ("xd_source", "test_only"),
)
