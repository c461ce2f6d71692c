"""Reads config files, which are YAML files. The `_BASE_` key of a file may name other config files, called its bases.

A file inherits the settings of its bases, and contains only the settings that differ. `merge_file` calls
`read_config_file` to get all settings. `experiments/` calls `config_files` to detect that a config file has changed
since a run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dassl.config.checks import check_setting
from dassl.utils.errors import InputError, unknown
from dassl.utils.yaml_files import read_yaml

#: Key whose value is the path of another config file, or a list of paths.
BASE_KEY = "_BASE_"
#: Maximum number of files in a chain of bases. In a chain, each file names the next file as its base.
MAX_CHAIN = 8
#: The project's folder. The path of a base is relative to the file that names the base, or else to this folder.
_ROOT = Path(__file__).resolve().parents[2]


class Setting(NamedTuple):
    """The value of a config key, and the file that sets this value. Error messages name the file."""

    value: object
    file: Path


def read_config_file(path: str | Path) -> dict[str, Setting]:
    """Return the settings of a config file and its bases, as {"NODE.KEY": setting}.

    A later base overrides an earlier base, and the file overrides all its bases. The values of Dassl's keys are checked
    and have the key's type. The values of the trainers' keys are checked when they are merged.

    Raises:
        InputError: if a file is missing or isn't valid YAML, if the bases form a cycle, or if a value is wrong.
    """
    settings: dict[str, Setting] = {}
    for file, content in _read_chain(Path(path), ()):
        found = list(_flatten(content, file))
        keys = [key for key, _ in found]
        for key, value in found:
            if keys.count(key) > 1:
                raise InputError(f"{file} sets {key} twice")
            settings[key] = Setting(check_setting(key, value, f" in {file}"), file)
    return settings


def config_files(path: str | Path) -> list[Path]:
    """Return the paths of a config file and all its bases, without duplicates.

    The file comes first, then its bases in reverse order of merging. A caller can hash these files to detect that a
    config may have changed.

    Raises:
        InputError: if a file is missing or isn't valid YAML, or if the bases form a cycle.
    """
    files = [file.resolve() for file, _ in _read_chain(Path(path), ())]
    return list(dict.fromkeys(reversed(files)))


def _read_chain(path: Path, named_by: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield (file, content without `_BASE_`) for all bases and then for `path`, in the order of merging."""
    content = _read_yaml(path, named_by)
    chain = (*named_by, path)
    for base in _base_paths(content.pop(BASE_KEY, None), path):
        if any(base.resolve() == file.resolve() for file in chain):
            raise InputError(f"{path}: {BASE_KEY} names {base}, which is based on {path} itself (a cycle)")
        if len(chain) >= MAX_CHAIN:
            raise InputError(f"{path}: {BASE_KEY} makes a chain of more than {MAX_CHAIN} files, which isn't allowed")
        yield from _read_chain(base, chain)
    yield path, content


def _read_yaml(path: Path, named_by: tuple[Path, ...]) -> dict[str, object]:
    if not path.is_file():
        kind = f"config file in {BASE_KEY} of {named_by[-1]}" if named_by else "config file"
        raise unknown(kind, str(path), [str(other) for other in path.parent.glob("*.yaml")])
    content = read_yaml(path)
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path} must contain config keys and their values, as KEY: value")
    return content


def _base_paths(names: object, path: Path) -> list[Path]:
    """Return the paths of the bases that the file `path` names.

    A name is relative to the folder of `path`. If this folder has no such file, the name is relative to the project's
    folder. Therefore, a copy of one of the project's config files works in any folder.
    """
    paths = []
    for name in [] if names is None else names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: {BASE_KEY} takes the path of a config file or a list of paths, not {names!r}")
        beside, in_project = path.parent / name, _ROOT / name
        paths.append(in_project if in_project.is_file() and not beside.is_file() else beside)
    return paths


def _flatten(content: dict[str, object], file: Path, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield ("NODE.KEY", value) for each value of a nested mapping."""
    for name, value in content.items():
        if not isinstance(name, str):
            raise InputError(f"config key {name!r} in {file} must be a string")
        if isinstance(value, dict):
            yield from _flatten(value, file, f"{prefix}{name}.")
        else:
            yield prefix + name, value
