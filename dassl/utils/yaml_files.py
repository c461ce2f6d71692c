"""`read_yaml` reads a YAML file that may come from anybody: a config, a sweep, or the config.yaml of a run.

No tag can make Python objects. Duplicate keys, recursive anchors and very large files are refused.
"""

from collections.abc import Callable, Hashable
from pathlib import Path

import yaml

from dassl.utils.errors import InputError

_MOST_BYTES = 2**19
_MOST_NODES = 100_000  # anchors can make a small file expand to millions of nodes
_DEEPEST = 30
_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version is ten times faster


class _Loader(_Base):  # type: ignore[valid-type, misc]  # chosen when the module is imported
    """A safe loader that refuses mappings in which a key occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, check: Callable[[str, Path], str] | None = None) -> object:
    """Return the content of a YAML file: nested dicts and lists of numbers, strings, dates and so on.

    Args:
        check: function that checks the text of the file before it is parsed, and returns the text to parse.

    Raises:
        InputError: the file isn't UTF-8, isn't valid YAML, contains a key twice, refers to itself, or is too large.
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path} is too large for a YAML file: it has more than {_MOST_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not in UTF-8: {error}") from error
    if check:
        text = check(text, Path(path))
    try:
        parsed = yaml.load(text, _Loader)
        _count(parsed, 0, [0])
    except Exception as error:  # tags such as !!int make PyYAML raise almost any error
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split()) or type(error).__name__}") from error
    return parsed


def _count(value: object, depth: int, total: list[int]) -> None:
    """Raise ValueError if the content is deeper than _DEEPEST, has more than _MOST_NODES nodes or a null character.

    An anchor that contains itself has no end, so it is too deep.
    """
    total[0] += 1
    if depth > _DEEPEST or total[0] > _MOST_NODES:
        raise ValueError("its content is nested too deeply, refers to itself, or is too large")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("it contains a null character")
    if isinstance(value, dict | list | tuple | set):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _count(item, depth + 1, total)
