"""Reads the options of a trainer from its source file, without importing the file.

`experiments/known_config.py` uses this module to check a config before torch is imported. A trainer's attribute
`options` names a dataclass, whose fields have literals as defaults. See `outlines.py` for other facts about plugins.
"""

import ast
from pathlib import Path

from dassl.utils.outlines import Unreadable, dotted, imports, parsed, plugin_files, registered_in


def read_options(folder: Path, registry: str, name: str) -> dict[str, object] | None:
    """Return {option: default} for the trainer that a file in the folder registers as `name`.

    The dict is empty if the trainer has no attribute `options`. Returns None if the options can't be read from the
    source, for example because a default isn't a literal.
    """
    try:
        paths = [path for path in plugin_files(folder) if name in registered_in(path, registry)]
        if len(paths) != 1:
            return None
        found = _find_options(paths[0], name, folder.parent)
        return _fields(*found, folder.parent) if found else {}
    except Unreadable:
        return None


def defines_function(folder: Path, name: str) -> bool:
    """Return whether a plugin file in the folder defines the function `name`, or can't be parsed."""
    try:
        return any(
            isinstance(node, ast.FunctionDef) and node.name == name
            for path in plugin_files(folder)
            for node in parsed(path).body
        )
    except Unreadable:
        return True


def _definition(path: Path, name: str, root: Path) -> tuple[Path, ast.ClassDef] | None:
    """Return the definition of the class that a file calls `name`, and the file that defines it.

    Imports are followed. Returns None if the class is defined outside `root` or in dassl or clip.
    """
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
    if name not in imports(path, root):
        raise Unreadable(f"{name} in {path}")
    module, original = imports(path, root)[name]
    return _definition(module, original, root) if module else None


def _find_options(path: Path, name: str, root: Path) -> tuple[Path, str] | None:
    """Return the file and the name of the class that the attribute `options` of a trainer's class names."""
    found = _definition(path, name, root)
    if found is None:
        return None
    path, definition = found
    for attribute, value in _assignments(definition):
        if attribute == "options":
            if not isinstance(value, ast.Name):
                raise Unreadable(f"{name}.options in {path}")
            return path, value.id
    for base in definition.bases:
        if inherited := _find_options(path, dotted(base), root):
            return inherited
    return None


def _fields(path: Path, name: str, root: Path) -> dict[str, object]:
    """Return {field: default} of a dataclass, including inherited fields."""
    found = _definition(path, name, root)
    if found is None:
        raise Unreadable(f"{name} in {path}")
    path, definition = found
    fields: dict[str, object] = {}
    for base in reversed(definition.bases):
        fields |= _fields(path, dotted(base), root)
    for field, value in _assignments(definition):
        try:
            fields[field] = ast.literal_eval(value)
        except ValueError as error:
            raise Unreadable(f"{name}.{field} in {path}") from error
    return fields


def _assignments(definition: ast.ClassDef) -> list[tuple[str, ast.expr]]:
    """Return (name, value) for each assignment to a name in a class body."""
    found = []
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found.append((node.target.id, node.value))
        elif isinstance(node, ast.Assign):
            found += [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
    return found
