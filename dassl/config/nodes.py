"""Turns a dataclass that describes a config node into the node, and finds the description of a node's keys.

`defaults.py` describes Dassl's nodes, and every method describes its node of TRAINER. A description gives each key a
type with a range, a default value and a meaning. `merge.py` checks values against it, and `tools/config_table.py` makes
docs/config.md from it.
"""

import dataclasses
import functools
import typing
from typing import Annotated, TypeVar, cast

from msgspec import Meta, inspect
from yacs.config import CfgNode

#: Ranges that several keys have. The upper limits only exclude values for which a run would never end.
Count = Annotated[int, Meta(ge=0, le=100_000)]
Positive = Annotated[int, Meta(ge=1, le=100_000)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # what torch and a table of results can hold
Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
#: Number of learned tokens in a text prompt (CLIP's context has 77 tokens), and among an image's patches.
ContextTokens = Annotated[int, Meta(ge=1, le=77)]
VisionTokens = Annotated[int, Meta(ge=0, le=1000)]
#: Rank of a matrix, or length of a learned vector. The upper limit only excludes values that fill the memory.
Width = Annotated[int, Meta(ge=1, le=16_384)]
#: Number of layers with prompts. Methods compare it with the tower's number of layers.
Depth = Annotated[int, Meta(ge=0, le=1000)]

T = TypeVar("T")
_MEANING = "meaning"  # key of a field's metadata
_DESCRIPTION = "_description"  # attribute of a node. yacs keeps it out of the node's keys


def described(default: T, meaning: str) -> T:
    """Return a dataclass field with a default value and one line that says what the config key means.

    A default that is a list is copied for each instance. The return type is that of the default, as for
    `dataclasses.field`, so type checkers compare it with the field's annotation.
    """
    metadata = {_MEANING: meaning}
    if isinstance(default, list):
        return cast(T, dataclasses.field(default_factory=lambda: list(default), metadata=metadata))
    return cast(T, dataclasses.field(default=default, metadata=metadata))


def meaning_of(description: type, name: str) -> str:
    """Return the meaning of a dataclass's field, or "" if there is none.

    A class that only changes the default of an inherited field inherits the meaning.
    """
    for cls in description.__mro__:
        field = vars(cls).get("__dataclass_fields__", {}).get(name)
        if field is not None and _MEANING in field.metadata:
            return field.metadata[_MEANING]
    return ""


def described_node(description: type) -> CfgNode:
    """Return a node with all fields of the dataclass and their default values.

    A field whose type is a dataclass becomes a node too. The node remembers its description, also in copies.
    """
    node = CfgNode()
    for field in dataclasses.fields(description):
        if dataclasses.is_dataclass(default := _default(field)):
            node[field.name] = described_node(type(default))
        else:
            node[field.name] = default
    node.__dict__[_DESCRIPTION] = description
    return node


def types_of(node: CfgNode) -> dict[str, type]:
    """Return {key: type} for the keys of a node that have a description. A third-party node has none."""
    description = description_of(node)
    return field_types(description) if description else {}


def description_of(node: CfgNode) -> type | None:
    """Return the dataclass that describes a node. None: the node is third-party."""
    return node.__dict__.get(_DESCRIPTION)


def field_types(description: type) -> dict[str, type]:
    """Return {field: type} of a dataclass. Fields whose types can't be checked are left out."""
    return _field_types(description)


@functools.cache
def _field_types(description: type) -> dict[str, type]:
    types = typing.get_type_hints(description, include_extras=True)
    names = [field.name for field in dataclasses.fields(description)]
    return {name: types[name] for name in names if _is_checkable(types[name])}


def _default(field: dataclasses.Field) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _is_checkable(kind: type) -> bool:
    try:
        return not isinstance(inspect.type_info(kind), inspect.CustomType)
    except TypeError:  # msgspec doesn't know the type, such as a third-party class
        return False
