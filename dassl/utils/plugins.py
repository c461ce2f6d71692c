"""Imports plugins. A plugin is a module of a package such as `trainers`. Decorators register the plugin's classes.

If a plugin can't be imported, the other plugins are still imported. The error is stored, and `find` reports it if a
class of that plugin is looked up. `outlines.py` reads the same files without importing them.
"""

import ast
import importlib
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from yacs.config import CfgNode

from dassl.utils.errors import InputError, unknown
from dassl.utils.outlines import bound_names
from dassl.utils.registry import Registry

#: {path of a plugin file: the error that the plugin raised}
_failures: dict[Path, Exception] = {}


def load_plugins(package: str) -> list[ModuleType]:
    """Import all modules of `package` whose names don't start with "_" or ".". Return the imported modules."""
    folder = Path(importlib.import_module(package).__path__[0])
    modules = []
    for path in sorted(folder.glob("*.py")):
        if path.stem.startswith(("_", ".")):
            continue
        try:
            modules.append(importlib.import_module(f"{package}.{path.stem}"))
        except Exception as error:  # a user's file can raise anything, and must not stop the other files
            _failures[path] = error
    return modules


def extend_config(cfg: CfgNode, plugins: Sequence[ModuleType]) -> None:
    """Call `extend_cfg(cfg)` of each plugin that defines this function, which adds the plugin's node to the config."""
    for plugin in plugins:
        if hasattr(plugin, "extend_cfg"):
            try:
                plugin.extend_cfg(cfg)
            except Exception as error:  # a user's function can raise anything, too
                _failures[Path(str(plugin.__file__))] = error


def read_function(path: str | Path, name: str) -> Callable:
    """Return a function that a Python file defines at its top level. The rest of the file isn't executed.

    Only the function and what it uses are executed: other functions, imports and variables of the file. So a function
    can be taken from a training script whose other imports don't exist here.

    Raises:
        InputError: the file can't be read or doesn't define the function; or executing what it uses fails.
    """
    try:
        with tokenize.open(path) as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"can't read {path} as Python: {' '.join(str(error).split())}") from error
    if not any(isinstance(node, ast.FunctionDef) and node.name == name for node in body):
        raise InputError(f"{path} doesn't define a function {name}(...)")
    needed, size = {name}, 0
    while len(needed) > size:
        size = len(needed)
        used = [node for node in body if bound_names(node) & needed]
        needed |= {part.id for node in used for part in ast.walk(node) if isinstance(part, ast.Name)}
    namespace: dict[str, Any] = {"__name__": Path(path).stem, "__file__": str(path)}
    try:
        exec(compile(ast.Module(used, type_ignores=[]), str(path), "exec"), namespace)
    except Exception as error:  # a user's file can raise anything
        raise InputError(f"{path}: what {name} uses can't be executed: {type(error).__name__}: {error}") from error
    return namespace[name]


def find(registry: Registry, what: str, name: str) -> Any:
    """Return the class registered as `name`. `what` is the word for the class in error messages, such as "trainer".

    Raises:
        InputError: no class has this name, or the plugin that defines it can't be loaded. In the first case, the
            message lists all names.
    """
    for path, error in _failures.items():
        if name in _classes_of(path):
            raise InputError(
                f"{what} {name!r} is defined in {path}, which can't be loaded: {type(error).__name__}: {error}"
            )
    if name not in registry.registered_names():
        raise unknown(what, name, registry.registered_names())
    return registry.get(name)


def _classes_of(path: Path) -> set[str]:
    """Return the names of the classes that a file defines.

    If the file can't be read or parsed, return the name of the file, because its class probably has the same name.
    """
    try:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):  # ValueError: the file can't be decoded, or contains a null byte
        return {path.stem}
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
