"""Registries and plugins: names, clashes, and files that can't be imported."""

import pytest
from conftest import config

from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import InputError, Registry, load_plugins, plugins


def test_a_name_is_registered_once_unless_forced():
    registry = Registry("THING")

    @registry.register()
    class Thing:
        pass

    assert registry.get("Thing") is Thing
    with pytest.raises(KeyError):
        registry.register(type("Thing", (), {}))
    other = type("Thing", (), {})
    registry.register(other, force=True)
    assert registry.get("Thing") is other
    assert registry.registered_names() == ["Thing"]


def test_an_unknown_trainer_gets_a_hint():
    load_plugins("trainers")
    with pytest.raises(InputError, match=r"Did you mean MaPLe.*ZeroshotCLIP"):
        build_trainer(config("TRAINER.NAME", "MaPLE"))


@pytest.fixture
def more_trainers(tmp_path, monkeypatch):
    """A package of plugins that fail to import."""
    package = tmp_path / "more_trainers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("import no_such_package\n\nclass Broken:\n    pass\n")
    (package / "clash.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\n\n@TRAINER_REGISTRY.register()\nclass MaPLe:\n    pass\n"
    )
    (package / "latin.py").write_bytes(b"name = 'Jos\xe9'\n")
    (package / ".#broken.py").symlink_to("user@host.1234")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_failures", {})
    load_plugins("trainers")
    load_plugins("more_trainers")


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ("Broken", r"broken\.py.*no_such_package"),
        ("MaPLe", r"clash\.py.*registered"),
        ("latin", r"latin\.py.*SyntaxError"),
    ],
)
def test_a_broken_plugin_is_reported_when_it_is_used(more_trainers, trainer, message):
    with pytest.raises(InputError, match=message):
        build_trainer(config("TRAINER.NAME", trainer))
    assert "ZeroshotCLIP" in TRAINER_REGISTRY.registered_names()
    assert sorted(path.name for path in plugins._failures) == ["broken.py", "clash.py", "latin.py"]
