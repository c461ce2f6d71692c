"""Checks values from files, flags and config keys against a type. All formats of the project use these functions.

A format is described once: a file by a `msgspec.Struct`, a config node by a dataclass whose fields may be
`Annotated[int, Meta(ge=1)]`, and so on. A value that doesn't fit becomes an `InputError`, which says where the value is
and which values are allowed. This module imports neither torch nor NumPy.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import inspect

from dassl.utils import checksums
from dassl.utils.errors import InputError, unknown

T = TypeVar("T")
#: Largest number in a config. PyTorch computes in float32, whose largest number is 3e38.
_LARGEST = 1e30
_LONGEST = 80  # number of characters of a wrong value that a message shows


def convert(value: object, kind: type[T], name: str, where: str = "") -> T:
    """Return `value` as the type `kind`. Lists become tuples, and integers become floats, if `kind` says so.

    Args:
        name: what the value is, for example "OPTIM.LR". The message of the error starts with it.
        where: end of the message, for example " in my.yaml".

    Raises:
        InputError: the value has another type or is out of range, a number is infinite, NaN or larger than 1e30, or a
            string contains a null character or isn't valid Unicode.
    """
    try:
        converted = msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as error:
        raise _wrong(value, inspect.type_info(kind), name, where) from error
    check_plain(converted, name, where)
    return converted


def allowed_values(kind: type) -> str:
    """Return the values that a type allows in words, as error messages do: "int, at least 1 and at most 77"."""
    return _allowed(inspect.type_info(kind)).removeprefix("a value of type ")


def check_plain(value: object, name: str, where: str = "") -> None:
    """Check all numbers and strings in a value, which may consist of nested lists and dicts.

    Raises:
        InputError: a number is infinite, NaN or larger than 1e30, or a string contains a null character or isn't valid
            Unicode.
    """
    for item in _leaves(value):
        if isinstance(item, float) and not abs(item) <= _LARGEST:  # also true for NaN
            raise InputError(f"{name} must be finite and at most {_LARGEST:g}, not {item}{where}")
        if isinstance(item, str) and ("\0" in item or not _is_unicode(item)):
            raise InputError(f"{name} must be text in UTF-8 without null characters, not {shown(item)}{where}")


def read_json_as(path: str | Path, kind: type[T], what: str) -> T:
    """Return the content of a JSON file as the type `kind`. `what` is the word for such a file in messages.

    Raises:
        InputError: the file isn't valid JSON, has another form, or contains a checksum that is wrong. The message says
            where in the file.
        OSError: the file can't be read.
    """
    content = Path(path).read_bytes()
    try:
        converted = msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} isn't a {what}: {one_place(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {one_place(error)}") from error
    if f'"{checksums.KEY}"'.encode() in content:
        checksums.check_json(json.loads(content), path)
    return converted


def one_place(error: Exception) -> str:
    """Return msgspec's message with the place in front, for example "runs[0].state: Expected `str`, got `int`"."""
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").removeprefix(".")
    return f"{place}: {text}" if place else text


def shown(value: object) -> str:
    """Return a value as it is shown in messages: its `repr` as ASCII text, cut to 80 characters."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # Python doesn't print integers with more than 4,300 digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _leaves(value: object) -> Iterator[object]:
    """Yield all numbers, strings and so on in nested lists and dicts."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # Python decodes bytes of file names that aren't UTF-8 as lone surrogates
        return False
    return True


# ---- messages ----


def _wrong(value: object, info: inspect.Type, name: str, where: str) -> InputError:
    """Return the error for a value that isn't of the type. If a word is unknown, suggest the closest known word."""
    words = _words(info)
    if words:
        for item in _leaves(value):
            if isinstance(item, str) and item not in words:
                return unknown(f"{name}{where}", item, words)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(info, inspect.IntType) and isinstance(value, float):
        is_number = False
    bounds = _bounds(info)
    allowed = bounds if is_number and bounds else _allowed(info)
    return InputError(f"{name} must be {allowed}, not {shown(value)}{where}")


def _words(info: inspect.Type) -> list[str]:
    """Return all words that a type allows, or [] if it isn't about words."""
    if isinstance(info, inspect.Metadata):
        return _words(info.type)
    if isinstance(info, inspect.LiteralType):
        return [str(word) for word in info.values]
    return _words(info.item_type) if isinstance(info, inspect.VarTupleType | inspect.ListType) else []


def _allowed(info: inspect.Type) -> str:
    """Describe the values that a type allows."""
    if isinstance(info, inspect.Metadata):
        description = (info.extra_json_schema or {}).get("description")
        return str(description or _allowed(info.type))
    if isinstance(info, inspect.IntType | inspect.FloatType):
        name = "int" if isinstance(info, inspect.IntType) else "float"
        return ", ".join(filter(None, (f"a value of type {name}", _bounds(info))))
    if isinstance(info, inspect.LiteralType):
        return f"one of {', '.join(sorted(map(str, info.values)))}"
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        item = _allowed(info.item_type).removeprefix("a value of type ")
        lengths = _range(info.min_length, None, info.max_length, None)
        return f"a list of {item}" + (f" with {lengths} items" if lengths else "")
    if isinstance(info, inspect.TupleType):
        return f"a list of {len(info.item_types)} values ({', '.join(map(_allowed, info.item_types))})"
    names = {inspect.BoolType: "True or False", inspect.StrType: "str", inspect.NoneType: "null"}
    return names.get(type(info), "another type")


def _bounds(info: inspect.Type) -> str:
    """Describe the range of a number, or return "" if the type has no range."""
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return _range(info.ge, info.gt, info.le, info.lt)
    return ""


def _range(ge: float | None, gt: float | None, le: float | None, lt: float | None) -> str:
    words = (("at least", ge), ("greater than", gt), ("at most", le), ("less than", lt))
    return " and ".join(f"{word} {bound}" for word, bound in words if bound is not None)
