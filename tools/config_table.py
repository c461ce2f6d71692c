"""Writes docs/config.md: every config key with its type, default and meaning. Call it after a change of config keys.

    python -m tools.config_table

The keys, types, defaults and meanings are those of `dassl/config/defaults.py` and of each method's options.
"""

import sys
from collections.abc import Iterator

from yacs.config import CfgNode

from dassl.config import ConfigValue, Int64, description_of, field_types, meaning_of
from dassl.utils import InputError
from dassl.utils.typed import allowed_values
from tools.generated_pages import DOCS, markdown_table, write_page
from trainers.common.options import default_config

PAGE = DOCS / "config.md"
COMMAND = "python -m tools.config_table"
INTRODUCTION = """<!-- python -m tools.config_table writes this page. -->

# Config keys

Every key can be set in a YAML file or on the command line, as a pair KEY VALUE:

    bash scripts/maple/base2new_train.sh emoji_food 1 OPTIM.LR 0.01 TRAINER.MAPLE.N_CTX 4

The command line overrides files: see [the order of all sources](architecture.md#from-folder-to-folder). The defaults
below are those of the code. The files in `configs/trainers/` set other values for many keys, as published.
"""


def nodes_of(node: CfgNode, name: str = "") -> Iterator[tuple[str, CfgNode]]:
    """Yield a node and all nodes below it, with their dotted names. The name of the top is ""."""
    yield name, node
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from nodes_of(value, f"{name}.{key}".lstrip("."))


def shown_type(kind: type) -> str:
    """Return the values that a key may have. The limits of 64-bit integers aren't shown."""
    return "int" if kind == Int64 else allowed_values(kind)


def shown_default(value: ConfigValue) -> str:
    return f"`{value!r}`" if value != "" else '`""`'


def rows_of(node: CfgNode, name: str) -> list[list[str]]:
    """Return the table rows of a node: key, type, default and meaning of each key that isn't a node.

    Raises:
        InputError: a key has no meaning in the code.
    """
    description = description_of(node)
    values = {key: value for key, value in node.items() if not isinstance(value, CfgNode)}
    if description is None:
        raise InputError(f"the config node {name} has no description. Declare it as a dataclass")
    rows = []
    for key, value in values.items():
        meaning = meaning_of(description, key)
        full = f"{name}.{key}".lstrip(".")
        if not meaning:
            raise InputError(f"{full} has no meaning. Use described(default, meaning) in {description.__module__}")
        rows.append([f"`{full}`", shown_type(field_types(description)[key]), shown_default(value), meaning])
    return rows


def content() -> str:
    """Return the page: a section with a table for each node of the config, with the nodes of all trainers."""
    parts = [INTRODUCTION]
    for name, node in nodes_of(default_config()):
        rows = rows_of(node, name)
        title = name or "Top level"
        parts.append(f"## {title}\n\n{markdown_table(['key', 'type', 'default', 'meaning'], rows)}\n")
    return "\n".join(parts)


def main(argv: list[str]) -> int:
    return write_page(PAGE, content, argv, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
