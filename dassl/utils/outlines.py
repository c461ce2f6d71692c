"""Reads facts about plugin classes from their source files, without importing them.

`experiments/` uses this module to find a trainer or a data set before torch is imported. The outline of a plugin class
is a class that has only the name and the literal attributes of the plugin class. Plugins must therefore set some
attributes as literals in the class body. These attributes, which choose config files or folders, are `default_config`,
`few_shot_config`, `cross_dataset_config`, `node`, `checkpoints`, `xd_source` and `test_only`. If a file can't be read,
or if it sets such an attribute in another way, the functions return None, and the caller imports the plugins.
"""

import ast
import functools
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outline:
    """A class with the name and the literal attributes of a plugin class, and the source files of the plugin class."""

    cls: type
    files: tuple[Path, ...]  # source files of the plugin class and of its base classes that are in the project

    def is_plain(self, base: str, methods: Sequence[str]) -> bool:
        """Return whether the plugin class derives from the class called `base` and overrides none of `methods`.

        If a class between the plugin class and `base` overrides one of `methods`, return False, too.
        """
        for cls in self.cls.__mro__:
            if cls.__name__ == base:
                return True
            if set(methods) & set(getattr(cls, _METHODS, ())):
                return False
        return False


#: Name of an attribute of an outline's class. It stores the names of the methods that the class body defines.
_METHODS = "__outlined_methods__"


class Unreadable(Exception):
    """Raised if the facts about a class can't be read from its source."""


def registered_names(folder: Path, registry: str) -> list[str] | None:
    """Return the names of the classes that the folder's files register with the decorator `@<registry>.register()`.

    Returns None if a file can't be read or parsed, or if it registers classes in another way.
    """
    try:
        return [name for path in plugin_files(folder) for name in registered_in(path, registry)]
    except Unreadable:
        return None


def read_class(folder: Path, registry: str, name: str, attributes: Sequence[str]) -> Outline | None:
    """Return the outline of the class that a file in the folder registers as `name`. It includes inherited attributes.

    Returns None if no file or more than one file registers the class, if one of `attributes` isn't a literal, or if the
    source can't be read for another reason.
    """
    return _read_class(folder, folder.stat().st_mtime_ns if folder.is_dir() else 0, registry, name, tuple(attributes))


@functools.cache  # the modification time of the folder is a part of the cache's key, so that a new file is seen
def _read_class(folder: Path, mtime: int, registry: str, name: str, attributes: tuple[str, ...]) -> Outline | None:
    try:
        paths = [path for path in plugin_files(folder) if name in registered_in(path, registry)]
        if len(paths) != 1:
            return None
        made: dict[tuple[Path, str], type] = {}
        cls = _outline(paths[0], name, folder.parent, attributes, made)
        return Outline(cls, tuple(dict.fromkeys(path for path, _ in made))) if cls else None
    except Unreadable:
        return None


def plugin_files(folder: Path) -> list[Path]:
    """Return the plugin files of a folder: the Python files whose names don't start with "_" or ".".

    An editor's lock file starts with ".", for example `.#coop.py`.
    """
    return [path for path in sorted(folder.glob("*.py")) if not path.stem.startswith(("_", "."))]


@functools.cache
def _source(path: Path) -> str:
    """Return the text of a Python file, decoded as its encoding declaration says. Raises Unreadable if that fails."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError, SyntaxError) as error:  # SyntaxError: the encoding declaration is wrong
        raise Unreadable(path) from error


@functools.cache
def parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(_source(path))
    except (SyntaxError, ValueError) as error:
        raise Unreadable(path) from error


@functools.cache
def registered_in(path: Path, registry: str) -> tuple[str, ...]:
    """Return the names of the classes that a file registers with the decorator `@<registry>.register()`.

    Raises Unreadable if the file also registers classes in another way.
    """
    if registry not in _source(path):
        return ()
    tree, names, decorators = parsed(path), [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                if _is_register(call, registry):
                    names.append(node.name)
                    decorators.add(call)
    for node in ast.walk(tree):
        is_alias = isinstance(node, ast.Assign) and _is_named(node.value, registry)
        if is_alias or (_is_register(node, registry) and node not in decorators):
            raise Unreadable(path)
    return tuple(names)


def _is_register(node: ast.AST, registry: str) -> bool:
    """Return whether a node of the syntax tree is `<registry>.register`."""
    return isinstance(node, ast.Attribute) and node.attr == "register" and _is_named(node.value, registry)


def _is_named(node: ast.AST, name: str) -> bool:
    """Return whether a node of the syntax tree is `<name>` or `<anything>.<name>`."""
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def _outline(
    path: Path, name: str, root: Path, attributes: tuple[str, ...], made: dict[tuple[Path, str], type]
) -> type | None:
    """Return a class that has the name and the literal attributes of the class `name` in a file.

    The returned class derives from the outlines of the base classes, so it inherits their attributes. Return None if
    the class `name` is imported from a module that isn't below `root`. `made` maps (file, name) to each outline made so
    far, because a class that is reached twice must get only one outline.
    """
    if (path, name) in made:
        return made[path, name]
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            _check_definition(path, node)
            _check_stores(path, attributes)
            found = [_outline(path, dotted(base), root, attributes, made) for base in node.bases]
            bases = tuple(base for base in found if base)
            try:
                methods = tuple(part.name for part in node.body if isinstance(part, ast.FunctionDef))
                made[path, name] = type(name, bases, {_METHODS: methods, **_literals(node, attributes)})
                return made[path, name]
            except TypeError as error:  # the base classes have no consistent order
                raise Unreadable(f"{name} in {path}") from error
    if name in ("object", "type"):
        return None
    first, _, rest = name.partition(".")
    if first not in imports(path, root):
        raise Unreadable(f"{name} in {path}")
    module, original = imports(path, root)[first]
    return _outline(module, rest or original, root, attributes, made) if module else None


def dotted(node: ast.expr) -> str:
    """Return the name of a base class as it is written in the source, for example "Trainer" or "module.Trainer"."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript):  # Generic[...]
        return dotted(node.value)
    raise Unreadable(ast.dump(node))


@functools.cache
def imports(path: Path, root: Path) -> dict[str, tuple[Path | None, str]]:
    """Return the imports of a file: {name: (file below `root` that defines it, its name in that file)}.

    The file is None if a name comes from elsewhere. Only absolute imports are followed.
    """
    found: dict[str, tuple[Path | None, str]] = {}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                submodule = _module_file(root, f"{node.module}.{alias.name}")
                source = (submodule, "") if submodule else (_module_file(root, node.module), alias.name)
                found[alias.asname or alias.name] = source
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if not _module_file(root, alias.name):  # `import trainers.x` isn't supported
                    found[alias.asname or alias.name.partition(".")[0]] = (None, alias.name)
    return found


def _module_file(root: Path, module: str) -> Path | None:
    """Return the file of a module below `root`, or None if it doesn't exist or if the module is in dassl or clip."""
    path = root.joinpath(*module.split("."))
    if module.partition(".")[0] in ("dassl", "clip"):
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _literals(definition: ast.ClassDef, attributes: Sequence[str]) -> dict[str, object]:
    """Return the values that a class body assigns to `attributes`, each by a statement `attribute = literal`.

    Raises Unreadable if a value isn't a literal, or if the class body binds an attribute in another way.
    """
    values: dict[str, object] = {}
    for node in definition.body:
        targets: list[ast.expr] = []
        value: ast.AST = node
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        names = [target.id for target in targets if isinstance(target, ast.Name) and target.id in attributes]
        others = [value, *(target for target in targets if not isinstance(target, ast.Name))]
        if any(bound_names(other) & set(attributes) for other in others):
            raise Unreadable(definition.name)
        if names:
            try:
                values |= dict.fromkeys(names, ast.literal_eval(value))
            except ValueError as error:
                raise Unreadable(f"{definition.name}.{names[0]}") from error
    return values


def bound_names(node: ast.AST) -> set[str]:
    """Return the names that a statement or expression binds or deletes in its own scope.

    The bodies of functions and of nested classes have their own scopes, so they are skipped.
    """
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and node.value is None:  # `name: type` binds nothing
        return set()
    found = {name for child in ast.iter_child_nodes(node) for name in bound_names(child)}
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        found.add(node.id)
    elif isinstance(node, ast.alias):  # an import
        found.add(node.asname or node.name)
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        found.add(node.name)
    return found


def _check_definition(path: Path, definition: ast.ClassDef) -> None:
    """Raise Unreadable if a decorator, a keyword or a second definition may change the class's attributes."""
    for decorator in definition.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not (isinstance(call, ast.Attribute) and call.attr == "register" and _is_registry(call.value)):
            raise Unreadable(f"{definition.name} in {path} has another decorator than a registry's")
    if definition.keywords:  # a metaclass, or arguments of __init_subclass__
        raise Unreadable(f"{definition.name} in {path} has keywords")
    if sum(definition.name in bound_names(node) for node in parsed(path).body) > 1:
        raise Unreadable(f"{definition.name} in {path} is bound twice")


def _is_registry(node: ast.AST) -> bool:
    """Return whether a node of the syntax tree is a name such as `TRAINER_REGISTRY` or `build.TRAINER_REGISTRY`."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.endswith("REGISTRY")


@functools.cache
def _check_stores(path: Path, attributes: tuple[str, ...]) -> None:
    """Raise Unreadable if a file sets one of `attributes` on an object, for example by `X.node = "A"` or setattr.

    The object may be a class, so attributes that an `__init_subclass__` sets are found, too. `self.node = "A"` is
    allowed, because it sets an instance's attribute.
    """
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            is_instance = isinstance(node.value, ast.Name) and node.value.id == "self"
            found = node.attr in attributes and not is_instance
        else:
            found = isinstance(node, ast.Call) and _sets_attribute(node, attributes)
        if found:
            raise Unreadable(f"{path}, line {getattr(node, 'lineno', '?')}")


def _sets_attribute(call: ast.Call, attributes: Sequence[str]) -> bool:
    """Return whether a call of setattr or delattr may change one of `attributes`. A computed name may be any name."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in ("setattr", "delattr", "__setattr__", "__delattr__"):
        return False
    last = call.args[-2:] if "set" in name else call.args[-1:]  # [name, value] or [name]
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Name) and first.id == "self":
        return False  # the call sets an instance's attribute
    return not (last and isinstance(last[0], ast.Constant)) or last[0].value in attributes
