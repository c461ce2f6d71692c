"""Reads config files: YAML whose `_BASE_` key names other files to start from.

`merge_file` calls this module for the contents of a file. A run's hash calls `config_files` for the names of all files
that decide a config. A file that names bases holds only what differs from them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from dassl.utils.errors import InputError, unknown

#: Key whose value is the path of another config file, or a list of paths.
BASE_KEY = "_BASE_"
#: The longest allowed chain of files in which each names the next as its base.
MAX_CHAIN = 8
#: The project's folder: a base that isn't found beside the file that names it is looked up here.
_ROOT = Path(__file__).resolve().parents[2]


class Setting(NamedTuple):
    """The value of a config key, and the file that sets it (for error messages)."""

    value: object
    file: Path


def read_config_file(path: str | Path) -> dict[str, Setting]:
    """Return {"NODE.KEY": setting} of a config file and its bases.

    Bases are read first, in their order. A later base overrides an earlier one, and the file overrides its bases.

    Raises:
        InputError: if a file is missing or isn't valid YAML, or if the bases form a cycle.
    """
    settings: dict[str, Setting] = {}
    for file, content in _read_chain(Path(path), ()):
        settings |= {key: Setting(value, file) for key, value in _flatten(content, file)}
    return settings


def config_files(path: str | Path) -> list[Path]:
    """Return a config file and all its bases, each once: the file first, then its bases in reverse order of merging.

    Hash the contents of these files to notice that a config may have changed.

    Raises:
        InputError: as `read_config_file`.
    """
    files = [file.resolve() for file, _ in _read_chain(Path(path), ())]
    return list(dict.fromkeys(reversed(files)))


def _read_chain(path: Path, named_by: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield (file, its own content without `_BASE_`) in order of merging: bases first, `path` last."""
    content = _read_yaml(path, named_by)
    chain = (*named_by, path)
    for base in _base_paths(content.pop(BASE_KEY, None), path):
        if any(base.resolve() == file.resolve() for file in chain):
            raise InputError(f"{path}: {BASE_KEY} names {base}, which is based on {path} itself (a cycle)")
        if len(chain) >= MAX_CHAIN:
            raise InputError(f"{path}: a chain of more than {MAX_CHAIN} files through {BASE_KEY} isn't allowed")
        yield from _read_chain(base, chain)
    yield path, content


def _read_yaml(path: Path, named_by: tuple[Path, ...]) -> dict[str, object]:
    if not path.is_file():
        kind = f"config file in {BASE_KEY} of {named_by[-1]}" if named_by else "config file"
        raise unknown(kind, str(path), [str(other) for other in path.parent.glob("*.yaml")])
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold KEY: value lines")
    return content


def _base_paths(names: object, path: Path) -> list[Path]:
    """Paths of the bases that the file `path` names: relative to its folder, else to the project's folder.

    The second rule keeps a copy of one of our files valid in any folder.
    """
    paths = []
    for name in [] if names is None else names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: {BASE_KEY} takes the path of a config file or a list of paths, not {names!r}")
        beside, in_project = path.parent / name, _ROOT / name
        paths.append(in_project if in_project.is_file() and not beside.is_file() else beside)
    return paths


def _flatten(content: dict[str, object], file: Path, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield ("NODE.KEY", value) of nested mappings."""
    for name, value in content.items():
        if not isinstance(name, str):
            raise InputError(f"config key {name!r} in {file} must be a text")
        if isinstance(value, dict):
            yield from _flatten(value, file, f"{prefix}{name}.")
        else:
            yield prefix + name, value
