"""Checks a command of the docs without its work, for tests/test_docs_commands.py.

`resolve` takes the words of a command. It runs a bash script with a fake Python, which writes its arguments down. Then
it gives the arguments to the module in this process: experiments build configs or plans, others parse their arguments.
"""

import argparse
import importlib.util
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from doc_pages import ROOT

import train
from experiments import config, run, sweep

#: A fake Python for the scripts: it writes its arguments to a file instead of starting a module.
FAKE_PYTHON = """#!/usr/bin/env bash
[ "$1" = -c ] || printf '%s\\n' "$@" END >> "$DOCS_ARGUMENTS"
"""


class Parsed(BaseException):
    """Raised in place of the work of a command line, after its arguments were parsed."""


def run_protocol(arguments: list[str]) -> int:
    """Run a protocol in this process; returns the exit code."""
    return run.main(arguments)


def resolve_protocol(arguments: list[str]) -> None:
    """Build the config of every run of a protocol's command line. Raises InputError if an argument is wrong."""
    protocol, _, *rest = arguments
    assert len(rest) >= len(run.PROTOCOLS[protocol].arguments.split())
    for each in run.runs(arguments):
        config.resolve(each)


def resolve_sweep(arguments: list[str]) -> None:
    """Plan a sweep for one seed and one data set."""
    file = (ROOT / "configs" / "sweeps" / arguments[0].split(",")[0]).with_suffix(".yaml")
    dataset = yaml.safe_load(file.read_text())["datasets"][0]
    narrow = ["--datasets", dataset, "--seeds", "1"]
    assert sweep.main([arguments[0], *narrow, *arguments[1:], "--dry-run"]) == 0


def parse_only(module: str, arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    """Start a command line's module, and stop it when it has parsed its arguments."""
    for name in ("parse_args", "parse_intermixed_args"):
        patch.setattr(argparse.ArgumentParser, name, _parse_and_stop(getattr(argparse.ArgumentParser, name)))
    patch.setattr(sys, "argv", [module, *arguments])
    spec = importlib.util.find_spec(module)
    assert spec is not None
    with pytest.raises(Parsed):
        runpy.run_path(str(spec.origin), run_name="__main__")
    assert [word for word in arguments if word.endswith(".yaml") and not Path(word).is_file()] == []


def _parse_and_stop(parse: Callable[..., argparse.Namespace]) -> Callable[..., None]:
    def parse_and_stop(*args: object, **kwargs: object) -> None:
        raise Parsed(parse(*args, **kwargs))

    return parse_and_stop


def started_by(words: list[str], folder: Path) -> list[list[str]]:
    """The arguments of every Python process that a bash script would start."""
    fake = folder / "environment" / "bin" / "python"
    if not fake.is_file():
        fake.parent.mkdir(parents=True)
        fake.write_text(FAKE_PYTHON)
        fake.chmod(0o755)
    log = folder / "arguments.txt"
    log.unlink(missing_ok=True)
    environment = os.environ | {"VIRTUAL_ENV": str(folder / "environment"), "DOCS_ARGUMENTS": str(log)}
    script = str(ROOT / words[1])
    done = subprocess.run(
        ["bash", script, *words[2:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [part.split("\n") for part in log.read_text().rstrip().removesuffix("\nEND").split("\nEND\n")]


def resolve(words: list[str], folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Check a command that would take long: its script, trainer, data set, files and config keys exist.

    Raises:
        AssertionError, InputError: something in the command is wrong, or the command has an unknown form.
    """
    if words[0] == "...":  # arguments for any command
        words = ["bash", "scripts/maple/base2new_train.sh", "emoji_food", "1", *words[1:]]
    if words[0] == "torchrun":  # starts the same script in several processes
        words = ["python", *words[words.index("train.py") :]]
    if words[0] == "bash":
        started = started_by(words, folder)
    else:
        assert words[0] == "python", f"add this command to NOT_RUN or resolve(): {words}"
        started = [words[1:]]
    for arguments in started:
        if "-m" in arguments[:2]:
            number = arguments.index("-m") + 1
            module, rest = arguments[number], arguments[number + 1 :]
        else:
            module, rest = Path(arguments[0]).stem, arguments[1:]
            patch.syspath_prepend(str((ROOT / arguments[0]).parent))
        if module == "experiments.run":
            resolve_protocol(rest)
        elif module == "experiments.sweep":
            resolve_sweep(rest)
        elif module == "train":
            train.build_config(train.parse_arguments(rest))
        else:
            parse_only(module, rest, patch)
        if module == "tools.download":
            assert [name for name in rest if not (ROOT / "configs" / "datasets" / f"{name}.yaml").is_file()] == []
