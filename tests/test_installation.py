"""The scripts' installation: which Python, which packages, with pip or uv. No package is installed here."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path):
    """An environment whose Python only writes down its arguments."""
    has_pip = '[[ "$*" == "-m pip --version" && -e "$0.no-pip" ]] && exit 1'
    program(tmp_path / "env/bin/python", f'{has_pip}\necho "python $*" >> "{tmp_path}/calls"')
    program(tmp_path / "programs/uv", f'echo "uv $*" >> "{tmp_path}/calls"')
    return tmp_path / "env"


def install(environment, group=""):
    """Call `install`. Return the finished process, and the commands that were called with a project to install."""
    path = f"{environment.parent / 'programs'}:/usr/bin:/bin"
    command = f"source {ROOT}/scripts/env.sh && install {group}"
    words = {"VIRTUAL_ENV": str(environment), "PATH": path}
    done = subprocess.run(["bash", "-c", command], env=words, capture_output=True, text=True, encoding="utf-8")
    calls = environment.parent / "calls"
    lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
    return done, [line for line in lines if "--editable" in line]


def test_the_tests_packages_are_installed_only_for_the_tests(environment):
    _, plain = install(environment)
    assert [line.split()[-1] for line in plain] == [str(ROOT)]
    _, both = install(environment, "test")
    assert both[1].endswith(f"{ROOT}[test]")
    assert both[1].startswith("python -m pip install")
    assert len(install(environment, "test")[1]) == len(install(environment)[1]) == 2, "installed once"


def test_a_changed_setup_py_is_installed_anew(environment):
    install(environment)
    os.utime(environment / ".prompt-learning-installed", (0, 0))
    assert len(install(environment)[1]) == 2


def test_an_environment_without_pip_is_installed_with_uv(environment):
    (environment / "bin/python.no-pip").touch()
    _, calls = install(environment)
    assert calls[0].startswith(f"uv pip install --quiet --python {environment}/bin/python")


def test_neither_pip_nor_uv_is_one_line(environment):
    (environment / "bin/python.no-pip").touch()
    (environment.parent / "programs/uv").unlink()
    done, calls = install(environment)
    assert not calls
    assert done.returncode == 2
    assert re.fullmatch(r"error: .* has no pip, and there is no uv: install one of them\n", done.stderr)


def test_an_old_python_is_one_line(environment):
    program(environment / "bin/python", 'case "$1" in -c) exit 1;; --version) echo Python 3.11.2;; esac')
    done, _ = install(environment)
    assert done.returncode == 2
    assert done.stderr == "error: Python 3.11.2 is too old: use Python 3.11.4 or newer\n"


@pytest.fixture
def requirements(monkeypatch):
    """Every requirement of setup.py, as text."""
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    exec((ROOT / "setup.py").read_text(encoding="utf-8"), {})
    return [*found["install_requires"], *(r for group in found["extras_require"].values() for r in group)]


def test_constraints_hold_a_tested_version_of_each_requirement(requirements):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    tested = dict(line.split("==") for line in lines)
    for requirement in map(Requirement, requirements):
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        assert tested[name] in requirement.specifier, f"{requirement} in constraints.txt"


def test_each_requirement_has_a_lowest_version(requirements):
    assert not [line for line in requirements if ">=" not in line], "scripts/lowest.sh needs lowest versions"


def test_the_environment_file_installs_the_tested_versions():
    file = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert file["dependencies"][-1] == {"pip": ["--constraint constraints.txt", "--editable ."]}


def test_the_version_to_cite_is_that_of_setup_py():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version="{cited["version"]}"' in (ROOT / "setup.py").read_text(encoding="utf-8")
