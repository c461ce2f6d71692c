"""README and docs: every command runs or resolves, every example works.

Commands are checked in three ways. Cheap ones run on a small output folder (`RUN`). Commands that would train for long
are parsed, and their config is built (`resolve`). Commands that install, download or need other machines stand in
`NOT_RUN` with the reason. A command or code block of another form fails, so that new docs are noticed.
"""

import argparse
import importlib
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import doc_pages
import pytest
import yaml
from conftest import COLORS, make_image
from doc_pages import PAGES, ROOT, Command

import train
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_plugins, read_json

#: Starts of commands that this test doesn't run -> the reason.
NOT_RUN = {
    "bash scripts/demo.sh": "installs packages, then trains for minutes; its commands are those of the README",
    "bash scripts/test.sh": "installs packages and runs this test",
    "python3 -m venv": "makes an environment",
    "pip install": "downloads packages",
    "source .venv/bin/activate": "changes the shell",
    "export DATA=": "changes the shell",
    "bash scripts/run.sh tools.pretrain.pack": "downloads packages from npm",
}
#: Starts of code blocks without commands -> what they are.
NO_COMMANDS = {
    "All is in output/demo": "the last lines of demo.sh and test.sh",
    "train.py            arguments": "the tree",
    "command -> run": "the way of the data",
    "f = T([": "a formula",
    "[v_1] ...": "a formula",
    "text layer i:": "a formula",
}
#: Words of the docs that stand for a user's own.
PLACEHOLDERS = {"DATASET": "dtd", "SEED": "1", "NAME": "emoji_food"}
#: Stands for Python in the scripts: writes its arguments down instead of starting a module.
FAKE_PYTHON = """#!/usr/bin/env bash
[ "$1" = -c ] || printf '%s\\n' "$@" END >> "$DOCS_ARGUMENTS"
"""
COMMANDS = [command for page in PAGES for command in doc_pages.commands(page)]
ALL = list({str(command): command for command in COMMANDS}.values())
SMALL = ("base2new_train", "base2new_test")


# ---- how commands are run and resolved ----


class Parsed(BaseException):
    """Raised in place of the work of a command line, after its arguments were parsed."""


def run_protocol(arguments: list[str]) -> int:
    """Run a protocol in this process; returns the exit code."""
    from experiments import run

    return run.main(arguments)


def resolve_protocol(arguments: list[str]) -> None:
    """Build the config of every run of a protocol's command line. Raises InputError if an argument is wrong."""
    from experiments import run

    protocol, _, *rest = arguments
    assert len(rest) >= len(run.PROTOCOLS[protocol].words.split())
    for command in run.commands(arguments):
        train.build_config(train.parse_arguments(command.words))


def resolve_sweep(arguments: list[str]) -> None:
    """Plan a sweep for one seed and one data set."""
    from experiments import sweep

    file = ROOT / "configs" / "sweeps" / f"{arguments[0]}.yaml"
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
    if words[0] == "bash" and len(words) == 2:  # names a script
        assert (ROOT / words[1]).is_file()
        return
    if words[0] == "bash":
        started = started_by(words, folder)
    else:
        assert words[0] == "python", f"add this command to NOT_RUN or resolve(): {words}"
        started = [words[1:]]
    for arguments in started:
        if arguments[:2] == ["-P", "-m"]:
            module, rest = arguments[2], arguments[3:]
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


# ---- a small output folder for the commands that run ----


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `output/`: base-to-new of MaPLe and ZeroshotCLIP on a small emoji_food, and the sweep of both."""
    from experiments import sweep

    folder = tmp_path_factory.mktemp("project")
    content = {"protocol": "base2new", "trainers": ["MaPLe", "ZeroshotCLIP"], "datasets": ["emoji_food"], "seeds": [1]}
    (folder / "emoji_food.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUT", str(folder / "output"))
        for trainer in content["trainers"]:
            for protocol in SMALL:
                assert run_protocol([protocol, trainer, "emoji_food", "1"]) == 0
        assert sweep.main([str(folder / "emoji_food.yaml"), "--output", str(folder / "output")]) == 0
    return folder


@pytest.fixture
def in_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project as current folder; OUTPUT elsewhere, so that no resolved run finds results."""
    monkeypatch.setenv("OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.chdir(project)
    return project


def fill_in(words: list[str], project: Path) -> list[str]:
    """Replace the docs' placeholders and example paths by files of the small project."""
    run = next(project.glob("output/base2new/train_base/emoji_food/*/MaPLe/*/seed1"))
    examples = PLACEHOLDERS | {
        "FOLDER": str(run),
        "WEIGHTS_FOLDER": str(run),
        "output/.../MultiModalPromptLearner/model.pth.tar-5": str(next(run.glob("*/model.pth.tar-5"))),
        "output/base2new/train_base/dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx": str(run.parent),
    }
    return [examples.get(word, word) for word in words]


#: Starts of commands that are cheap enough to run -> the module whose `main` runs them in this process.
RUN = {
    "python report.py": "report",
    "python parse_test_res.py": "parse_test_res",
    "python interpret_prompts/interpret_prompt.py": "interpret_prompt",
    "bash scripts/repeat.sh": "experiments.repeat",
}


@pytest.mark.parametrize("command", ALL, ids=[f"{command.page} {command}" for command in ALL])
def test_command(command: Command, in_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the docs runs, resolves, or stands in NOT_RUN."""
    if any(str(command).startswith(start) for start in NOT_RUN):
        return
    words = fill_in(command.words, in_project)
    for start, module in RUN.items():
        if str(command).startswith(start):
            monkeypatch.syspath_prepend(str(ROOT / "interpret_prompts"))
            assert importlib.import_module(module).main(words[2:]) == 0
            return
    resolve(words, tmp_path, monkeypatch)


def test_not_run_lists_only_commands_of_the_docs() -> None:
    assert [start for start in NOT_RUN if not any(str(command).startswith(start) for command in COMMANDS)] == []


@pytest.mark.parametrize("page", PAGES, ids=doc_pages.name_of)
def test_a_code_block_holds_commands_or_is_known(page: Path) -> None:
    """A line that is neither a command nor a comment is only allowed in the blocks of NO_COMMANDS."""
    for block in doc_pages.blocks(page):
        if block.language:
            assert block.language in ("python", "yaml")
        elif not any(block.text.startswith(start) for start in NO_COMMANDS):
            lines = [line for line in block.lines if line and not line.startswith("#")]
            assert [line for line in lines if not doc_pages.is_command(line)] == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["bash", "scripts/maple/no_such.sh", "dtd", "1"], AssertionError),
        (["bash", "scripts/maple/base2new_train.sh", "dtd"], AssertionError),
        (["bash", "scripts/maple/base2new_train.sh", "no_such", "1"], InputError),
        (["bash", "scripts/maple/base2new_train.sh", "dtd", "1", "--trainer", "NoSuch"], InputError),
        (["bash", "scripts/maple/base2new_train.sh", "dtd", "1", "OPTIM.NO_SUCH", "1"], InputError),
        (["python", "train.py", "--trainer", "MaPLe", "--dataset-config-file", "no_such.yaml"], InputError),
        (["python", "benchmarks/step_time.py", "--no-such", "1"], SystemExit),
        (["curl", "https://example.org"], AssertionError),
    ],
)
def test_a_wrong_command_is_noticed(
    words: list[str], error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resolve` fails for what a typo in the docs would look like."""
    with pytest.raises(error):
        resolve(words, tmp_path, monkeypatch)


# ---- examples: YAML and Python ----


def code(page: str, language: str) -> list[str]:
    return [block.text for block in doc_pages.blocks(ROOT / page) if block.language == language]


def test_the_sweep_of_the_results_page_plans(in_project: Path) -> None:
    from experiments import sweep

    (text,) = code("docs/results.md", "yaml")
    (in_project / "example.yaml").write_text(text)
    assert sweep.main(["example.yaml", "--dry-run", "--seeds", "1"]) == 0


def test_the_tasks_of_the_softcpt_page_are_a_config(in_project: Path) -> None:
    (text,) = code("docs/softcpt.md", "yaml")
    (in_project / "tasks.yaml").write_text(text)
    words = ["--trainer", "SoftCPT", "--dataset-config-file", str(in_project / "tasks.yaml")]
    cfg = train.build_config(train.parse_arguments(words))
    load_plugins("datasets")
    assert {task[0] for task in cfg.DATASET.TASKS} <= set(DATASET_REGISTRY.registered_names())


def test_the_readme_s_python_runs(in_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets run as they are, but with the small project's run and image."""
    (run,) = fill_in(["FOLDER"], in_project)
    make_image(in_project / "photo.jpg", (200, 40, 40), seed=0)
    for text in code("README.md", "python"):
        exec(re.sub(r"output/[\w/.+-]+", run, text), {"__name__": "readme"})


def test_the_examples_of_contributing_run(tmp_path: Path, tiny_path: Path) -> None:
    """The trainer and the data set of CONTRIBUTING.md, in a copy of the project, train and test together."""
    trainer, dataset = code("CONTRIBUTING.md", "python")
    for entry in ROOT.iterdir():
        if entry.name in ("trainers", "datasets"):
            shutil.copytree(entry, tmp_path / entry.name)
        elif entry.suffix == ".py" or entry.is_dir():
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "trainers/shortprompt.py").write_text(trainer)
    (tmp_path / "datasets/mushrooms.py").write_text(dataset)
    (tmp_path / "mushrooms.yaml").write_text("DATASET:\n  NAME: Mushrooms\n")
    for name, color in COLORS.items():
        for number in range(6):
            make_image(tmp_path / "photos/mushrooms/images" / name / f"{number}.png", color, number)
    words = [
        "--trainer", "ShortPrompt", "--config-file", str(ROOT / "configs/trainers/CoOp/vit_b16.yaml"), "--seed", "1",
        "--dataset-config-file", "mushrooms.yaml", "--root", "photos", "--output-dir", "run", "DATASET.NUM_SHOTS", "2",
        "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", "1",
        "DATALOADER.NUM_WORKERS", "0",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "train", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = read_json(tmp_path / "run/result.json")
    assert (result["trainer"], result["dataset"]) == ("ShortPrompt", "Mushrooms")


# ---- slow: commands as a user types them ----


@pytest.mark.slow
def test_the_first_commands_of_the_readme_run(tmp_path: Path) -> None:
    """The README's main job, as bash commands from another folder, on the whole embedded data set."""
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "OUTPUT": str(tmp_path / "output")}
    for line in (
        "scripts/maple/base2new_train.sh emoji_food 1",
        "scripts/maple/base2new_test.sh emoji_food 1",
        "scripts/maple/base2new_train.sh emoji_food 1 --trainer ZeroshotCLIP",
        "scripts/maple/few_shot.sh emoji_food 1 DATASET.NUM_SHOTS 4",
        "scripts/sweep.sh emoji_food --trainers ZeroshotCLIP --seeds 1",
    ):
        script, *words = shlex.split(line)
        assert any(str(command).startswith(f"bash {script}") for command in COMMANDS)
        done = subprocess.run(
            ["bash", str(ROOT / script), *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "output/sweeps").is_dir()
