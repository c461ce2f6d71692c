"""Finds trainer and data set classes by name, even before they are imported.

`config.py`, `checks.py` and `plan.py` call `TRAINERS.find(name)` and `DATASETS.find(name)`. If the class isn't imported
yet, the call returns an outline instead. An outline has only the class's name and literal attributes, which are read
from the source file (`dassl/utils/outlines.py`). So an unknown name is reported before torch is imported.
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
    """A package whose modules are plugins, and the registry in which the plugin classes are registered."""

    package: str  # name of the package
    module: str  # name of the module that defines the registry
    registry: str  # name of the registry in this module
    what: str  # noun for error texts, for example "trainer"
    attributes: tuple[str, ...]  # class attributes that outlines have; they are read from the source

    @property
    def folder(self) -> Path:
        """The package's folder, found through Python's import path."""
        spec = importlib.util.find_spec(self.package)
        locations = spec.submodule_search_locations if spec else None
        return Path(locations[0] if locations else self.package)

    def find(self, name: str) -> type:
        """Return the class called `name`, or its outline if the class isn't imported yet.

        Imports all plugins only if no outline can be read from the sources. Raises InputError for an unknown name.
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
        """Read the outline of a class from its source.

        Returns None if no plugin defines the class, or if its source can't be read.
        """
        return read_class(self.folder, self.registry, name, self.attributes)

    def names(self) -> list[str]:
        """Return the sorted names of all classes that are imported or whose names can be read from the sources."""
        return sorted({*(registered_names(self.folder, self.registry) or []), *self._imported()})

    def _imported(self) -> list[str]:
        module = sys.modules.get(self.module)
        return getattr(module, self.registry).registered_names() if module else []


TRAINERS = Plugins(
    "trainers",
    "dassl.engine.build",
    "TRAINER_REGISTRY",
    "trainer",
    ("node", "checkpoints", "default_config", "cross_dataset_config"),
)
DATASETS = Plugins(
    "datasets",
    "dassl.data.datasets.build",
    "DATASET_REGISTRY",
    "data set (DATASET.NAME)",
    ("xd_source", "test_only"),
)
