"""Text files are read and written in UTF-8, whatever the locale is."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("benchmarks", "clip", "dassl", "datasets", "experiments", "reporting", "tools", "trainers", ".")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.py" if folder == "." else "**/*.py")]
#: Functions that open a text file, with the position of their argument `mode` (None: they have none).
OPENERS = {"read_text": None, "write_text": None, "open": 1}


def _calls_without_encoding(path: Path):
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in OPENERS:
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            mode = node.args[0] if function.attr == "open" and node.args else None
            is_text = owner not in ("Image", "os", "tokenize", "tarfile") and not _is_binary(mode)
        else:
            is_text = isinstance(function, ast.Name) and function.id == "open" and not _is_binary(*node.args[1:2])
        if is_text:
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def _is_binary(mode=None):
    return isinstance(mode, ast.Constant) and "b" in str(mode.value)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_has_an_encoding(folder):
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == folder or path.parent == ROOT / folder]
    assert [place for path in files for place in _calls_without_encoding(path)] == []
