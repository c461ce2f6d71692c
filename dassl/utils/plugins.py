"""Imports plugins: every module of a folder, so that its classes enter themselves in a registry.

A plugin that can't be imported doesn't stop the others. Its error is remembered, and `find` raises it when a class of
that file is wanted. `outlines.py` reads the same files without importing them.
"""

import ast
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from yacs.config import CfgNode

from dassl.utils.errors import InputError, unknown
from dassl.utils.registry import Registry

#: Path of a plugin file -> the error that its import raised.
_failures: dict[Path, Exception] = {}


def load_plugins(package: str) -> list[ModuleType]:
    """Import all modules of the folder `package` whose names don't start with "_". Returns those that load."""
    folder = Path(importlib.import_module(package).__path__[0])
    modules = []
    for path in sorted(folder.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        try:
            modules.append(importlib.import_module(f"{package}.{path.stem}"))
        except Exception as error:  # a user's file can raise anything, and must not stop the other files
            _failures[path] = error
    return modules


def extend_config(cfg: CfgNode, plugins: Sequence[ModuleType]) -> None:
    """Call `extend_cfg(cfg)` of every plugin that has one, so that it adds its config node."""
    for plugin in plugins:
        if hasattr(plugin, "extend_cfg"):
            try:
                plugin.extend_cfg(cfg)
            except Exception as error:  # as in load_plugins
                _failures[Path(str(plugin.__file__))] = error


def find(registry: Registry, what: str, name: str) -> Any:
    """The class registered as `name`. Error messages call it a `what`, for example "trainer".

    Raises:
        InputError: no class has this name (the message lists all names), or the file that defines it can't be imported.
    """
    for path, error in _failures.items():
        if name in _classes_of(path):
            raise InputError(f"{what} {name!r} is in {path}, which can't be used: {type(error).__name__}: {error}")
    if name not in registry.registered_names():
        raise unknown(what, name, registry.registered_names())
    return registry.get(name)


def _classes_of(path: Path) -> set[str]:
    """Names of the classes that a file defines. A file with a syntax error is taken to define a class of its name."""
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError:
        return {path.stem}
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
