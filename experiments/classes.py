"""Trainer and data set classes by name, imported or not.

`config.py`, `checks.py` and `plan.py` ask `TRAINERS` and `DATASETS` for a class. If the class isn't imported yet, they
get its outline, which is read from the source file (`dassl/utils/outlines.py`). So unknown names and default config
files are found before torch is imported.
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
    """A folder of plugins, and the registry that their classes enter themselves in."""

    package: str
    module: str  # that defines the registry
    registry: str
    what: str  # what a name is a name of, for errors
    attributes: tuple[str, ...]  # class attributes that are read from the source

    @property
    def folder(self) -> Path:
        """The package's folder, where Python finds it."""
        spec = importlib.util.find_spec(self.package)
        locations = spec.submodule_search_locations if spec else None
        return Path(locations[0] if locations else self.package)

    def find(self, name: str) -> type:
        """The class of that name, or its outline if it isn't imported yet.

        Imports the plugins only if their sources don't tell the class. Raises InputError for an unknown name.
        """
        if name in self._imported():
            return getattr(sys.modules[self.module], self.registry).get(name)
        outline = self.outline(name)
        if outline:
            return outline.cls
        names = registered_names(self.folder, self.registry)
        if names is not None and name not in names:
            raise unknown(self.what, name, [*names, *self._imported()])
        importlib.import_module("torch")  # report a missing torch itself, not all plugins that fail without it
        load_plugins(self.package)
        return find(getattr(importlib.import_module(self.module), self.registry), self.what, name)

    def outline(self, name: str) -> Outline | None:
        """The class as its source tells. None if the source doesn't tell, or if no plugin file defines the class."""
        return read_class(self.folder, self.registry, name, self.attributes)

    def names(self) -> list[str]:
        """All names, as far as the sources tell, or of the imported classes."""
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
