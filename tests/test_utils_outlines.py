"""Outlines of plugins: what is read from a source file equals what an import gives, or the file is unreadable."""

import pytest
from conftest import ROOT

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from dassl.utils.outlines import read_class, registered_names
from experiments.classes import DATASETS, TRAINERS

load_plugins("trainers")
load_plugins("datasets")
REGISTRIES = {TRAINERS: TRAINER_REGISTRY, DATASETS: DATASET_REGISTRY}


def names_of(plugins):
    return sorted(registered_names(ROOT / plugins.package, plugins.registry) or [])


@pytest.mark.parametrize("plugins", REGISTRIES, ids=lambda plugins: plugins.package)
def test_all_names_are_read(plugins):
    registry = REGISTRIES[plugins]
    imported = [
        name for name in registry.registered_names() if registry.get(name).__module__.startswith(plugins.package)
    ]
    assert names_of(plugins) == sorted(imported)


@pytest.mark.parametrize("name", names_of(TRAINERS))
def test_a_trainers_attributes_are_those_of_the_class(name):
    same_attributes(TRAINERS, name)


@pytest.mark.parametrize("name", names_of(DATASETS))
def test_a_data_sets_attributes_are_those_of_the_class(name):
    same_attributes(DATASETS, name)


def same_attributes(plugins, name):
    outline, cls = plugins.outline(name), REGISTRIES[plugins].get(name)
    assert outline is not None
    assert outline.cls.__name__ == name
    for attribute in plugins.attributes:
        # An outline has no attributes of dassl's classes. Their defaults are empty or False.
        read = getattr(outline.cls, attribute, None)
        assert (read or None) == (getattr(cls, attribute, None) or None), attribute
    assert ROOT / f"{cls.__module__.replace('.', '/')}.py" in outline.files


HEADER = "from dassl.engine import TRAINER_REGISTRY\nfrom plugins.base import Base\n"
REGISTER = "@TRAINER_REGISTRY.register()\n"


@pytest.fixture
def read(tmp_path):
    """read(source) -> outline of class X in a plugin file with this source, beside a file base.py."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "base.py").write_text("class Base:\n    node = 'BASE'\n    default_config = 'a'\n")

    def read(source):
        (folder / "x.py").write_text(HEADER + source)
        return read_class(folder, "TRAINER_REGISTRY", "X", ("node", "default_config"))

    return read


def test_attributes_are_inherited(read):
    outline = read(f"{REGISTER}class X(Base):\n    default_config = 'b'\n")
    assert (outline.cls.node, outline.cls.default_config) == ("BASE", "b")
    assert {path.name for path in outline.files} == {"x.py", "base.py"}


def test_several_bases_are_in_pythons_order(read):
    source = "class Left(Base): pass\nclass Right(Base):\n    node = 'RIGHT'\n"
    assert read(f"{source}{REGISTER}class X(Left, Right): pass\n").cls.node == "RIGHT"


@pytest.mark.parametrize(
    "source",
    [
        f"{REGISTER}class X(Base):\n    default_config = 'a' + 'b'\n",
        f"{REGISTER}class X(Base):\n    @property\n    def node(self): return 'X'\n",
        f"{REGISTER}class X(unknown_name): pass\n",
        f"{REGISTER}class X(Base, Base): pass\n",
        "class X(Base): pass\nTRAINER_REGISTRY.register(X)\n",
        "R = TRAINER_REGISTRY\n@R.register()\nclass X(Base): pass\n",
        "class X(Base:\n",
        f"{REGISTER}class X(Base):\n    default_config, node = 'b', 'X'\n",
        f"{REGISTER}class X(Base):\n    if True:\n        node = 'X'\n",
        f"{REGISTER}class X(Base):\n    node = 'X'\n    node += 'Y'\n",
        f"{REGISTER}class X(Base):\n    other = (node := 'X')\n",
        f"{REGISTER}class X(Base):\n    from os import name as node\n",
        f"{REGISTER}class X(Base): pass\nX.node = 'X'\n",
        f"{REGISTER}class X(Base): pass\nX.node: str = 'X'\n",
        f"{REGISTER}class X(Base): pass\nsetattr(X, 'node', 'X')\n",
        f"{REGISTER}class X(Base): pass\nfor name in ['node']:\n    setattr(X, name, 'X')\n",
        f"{REGISTER}class X(Base): pass\ntype.__setattr__(X, 'node', 'X')\n",
        f"{REGISTER}@decorated\nclass X(Base): pass\n",
        f"@decorated('x')\n{REGISTER}class X(Base): pass\n",
        f"{REGISTER}class X(Base, metaclass=Meta): pass\n",
        f"class Y(Base):\n    def __init_subclass__(cls):\n        cls.node = 'Y'\n{REGISTER}class X(Y): pass\n",
        f"class Y(Base): pass\nclass Y(Base):\n    node = 'Y'\n{REGISTER}class X(Y): pass\n",
        f"class Y(Base): pass\nY = changed(Y)\n{REGISTER}class X(Y): pass\n",
        "class X(Base): pass\n",
    ],
)
def test_unreadable_classes_have_no_outline(source, read):
    assert read(source) is None


@pytest.mark.parametrize(
    "body",
    [
        "node: str\n",
        "def run(self):\n        node = 1\n        self.node = node\n",
        "def __init_subclass__(cls):\n        cls.other = 1\n        setattr(cls, 'another', 1)\n",
        "def run(self):\n        for name in ['node']: setattr(self, name, 1)\n",
        "other = node_of = 'x'\n",
    ],
)
def test_other_names_and_local_variables_do_not_count(body, read):
    assert read(f"{REGISTER}class X(Base):\n    {body}").cls.node == "BASE"


def test_a_chained_assignment_is_read(read):
    assert read(f"{REGISTER}class X(Base):\n    node = other = 'X'\n").cls.node == "X"


def test_a_file_in_another_encoding_is_read(tmp_path):
    source = f"# -*- coding: latin-1 -*-\n# Jos\xe9\n{REGISTER}class X: pass\n"
    (tmp_path / "x.py").write_bytes(source.encode("latin-1"))
    assert registered_names(tmp_path, "TRAINER_REGISTRY") == ["X"]


@pytest.mark.parametrize("content", [b"# Jos\xe9\n", b"# -*- coding: no-such -*-\n", None])
def test_a_file_that_cannot_be_read_leads_to_an_import(content, tmp_path):
    """None: the file is a dangling link."""
    path = tmp_path / "x.py"
    if content is None:
        path.symlink_to(tmp_path / "missing.py")
    else:
        path.write_bytes(content)
    assert registered_names(tmp_path, "TRAINER_REGISTRY") is None
    assert read_class(tmp_path, "TRAINER_REGISTRY", "X", ()) is None


def test_lock_files_of_editors_are_skipped(tmp_path):
    (tmp_path / "x.py").write_text(f"{REGISTER}class X: pass\n")
    (tmp_path / ".#x.py").symlink_to("user@host.1234")
    assert registered_names(tmp_path, "TRAINER_REGISTRY") == ["X"]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (f"{REGISTER}class X: pass\n@TRAINER_REGISTRY.register(force=True)\nclass Y: pass\n", ["X", "Y"]),
        ("class X: pass\nTRAINER_REGISTRY.register(X)\n", None),
        ("TRAINER_REGISTRY = (\n", None),
        ("names = 'no registry here'\n", []),
    ],
)
def test_names_are_read_unless_a_file_registers_in_another_way(source, names, tmp_path):
    (tmp_path / "x.py").write_text(source)
    (tmp_path / "_skipped.py").write_text(f"{REGISTER}class Skipped: pass\n")
    assert registered_names(tmp_path, "TRAINER_REGISTRY") == names
