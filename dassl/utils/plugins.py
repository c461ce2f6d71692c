"""Finds plugins: every module of a folder is imported, and those that register a class are thereby known."""

import ast
import importlib
from pathlib import Path
from typing import Any

from dassl.utils.errors import InputError, unknown
from dassl.utils.registry import Registry

#: path of a plugin file -> why it could not be imported; told when somebody asks for a class of that file.
_failures: dict[Path, Exception] = {}


def load_plugins(package: str) -> list[Any]:
    """Import all modules of the folder `package`; those that fail are remembered and told when asked for."""
    folder = Path(importlib.import_module(package).__path__[0])
    modules = []
    for path in sorted(folder.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        try:
            modules.append(importlib.import_module(f"{package}.{path.stem}"))
        except Exception as error:  # whatever a stranger's file raises must not stop the others
            _failures[path] = error
    return modules


def extend_config(cfg: Any, plugins: list[Any]) -> None:
    """Let every plugin that has an `extend_cfg(cfg)` add its config node; one that fails is told when asked for."""
    for plugin in plugins:
        if hasattr(plugin, "extend_cfg"):
            try:
                plugin.extend_cfg(cfg)
            except Exception as error:  # as with imports: a stranger's file must not stop the others
                _failures[Path(plugin.__file__)] = error


def find(registry: Registry, kind: str, name: str) -> Any:
    """The class registered as `name`.

    Raises:
        InputError: there is none (the message lists what there is), or a plugin file that defines it failed to import.
    """
    for path, error in _failures.items():
        if name in _classes_of(path):
            raise InputError(f"{kind} {name!r} is in {path}, which can't be used: {type(error).__name__}: {error}")
    if name not in registry.registered_names():
        raise unknown(kind, name, registry.registered_names())
    return registry.get(name)


def _classes_of(path: Path) -> set[str]:
    """Names of the classes that a file defines, as far as it can be read; its stem stands in where it can't."""
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError:
        return {path.stem}
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
