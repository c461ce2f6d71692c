"""README and docs: every command runs or resolves, every example works.

Commands are checked in three ways. Cheap ones run on a small output folder (`RUN`). Commands that would train for long
are parsed, and their config is built (`resolve`). Commands that install, download or need other machines are listed in
`NOT_RUN` with the reason. A command or code block of another form fails, so that new docs are noticed.
"""

import dataclasses
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import doc_pages
import pytest
import yaml
from conftest import COLORS, make_image
from doc_commands import resolve, run_protocol
from doc_pages import PAGES, ROOT, Command

import train
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_plugins, read_json
from experiments import sweep

#: The run of the small project that placeholders and example paths stand for.
RUN_FOLDER = "output/base2new/train_base/emoji_food/shots_16/MaPLe/vit_mini8/seed1"
#: Starts of commands that this test doesn't run -> the reason.
NOT_RUN = {
    "python -m tools.pretrain.conditioning": "encodes ten thousand images several times",
    "bash scripts/demo.sh": "installs packages, then trains for minutes; its commands are those of the README",
    "bash scripts/test.sh": "installs packages and runs this test",
    "bash scripts/lowest.sh": "makes an environment of 6 GB",
    "python3 -m venv": "makes an environment",
    "pip install": "downloads packages",
    "python -m mkdocs": "builds or serves the site; tests/test_docs_site.py builds it",
    "source .venv/bin/activate": "changes the shell",
    "export DATA=": "changes the shell",
    "bash scripts/run.sh tools.pretrain.pack": "downloads packages from npm",
    "python my_classifier/classifier.py": "an exported script, which tests/test_inference_export.py runs",
    "hf auth login": "needs an account of the Hugging Face hub",
    "python push.py": "needs an account of the Hugging Face hub; tests/test_inference_export.py has a stand-in",
    "python predict.py hf-hub:OWNER/NAME": "needs an account of the Hugging Face hub",
    "bash scripts/epochs.sh output/": "needs checkpoints of several epochs; tests/test_experiments_epochs.py runs it",
    f"python predict.py {RUN_FOLDER} --serve": "serves until it is stopped; tests/test_inference_page_browser.py does",
}
#: Starts of code blocks without commands -> what they are.
NO_COMMANDS = {
    "All is in output/demo": "the last lines of demo.sh and test.sh",
    "train.py            arguments": "the tree",
    "command -> run": "the way of the data",
    "f = T([": "a formula",
    "[v_1] ...": "a formula",
    "text layer i:": "a formula",
    "text layer 0:": "a drawing of the towers' inputs",
    "loss = ": "a formula",
    "logits = ": "a formula",
    "image ": "a drawing of the towers' inputs",
    "text layers 6": "a drawing of the towers' inputs",
    "x  ->": "a formula",
    "W  ->": "a formula",
    "map of layer i": "a formula",
}
#: Placeholders and example paths in the docs -> values to check the commands with.
PLACEHOLDERS = {
    "DATASET": "dtd",
    "SEED": "1",
    "NAME": "emoji_food",
    "FOLDER": RUN_FOLDER,
    "RUN": RUN_FOLDER,
    "WEIGHTS_FOLDER": RUN_FOLDER,
    "output/.../MultiModalPromptLearner/model.pth.tar-5": f"{RUN_FOLDER}/MultiModalPromptLearner/model.pth.tar-5",
    "output/base2new/train_base/dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx": str(Path(RUN_FOLDER).parent),
    "output/base2new/train_base/caltech101/shots_16/CoCoOp/vit_b16_c4_ep10_batch1_ctxv1": str(Path(RUN_FOLDER).parent),
}
COMMANDS = [
    dataclasses.replace(command, words=[PLACEHOLDERS.get(word, word) for word in command.words])
    for page in PAGES
    for command in doc_pages.commands(page)
]
#: Every command once, in prose and in a block.
ALL = list({(str(command), command.is_mention): command for command in COMMANDS}.values())
SMALL = ("base2new_train", "base2new_test")


# ---- a small output folder for the commands that run ----


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `output/`: base-to-new of MaPLe and ZeroshotCLIP on a small emoji_food, and the sweep of both."""
    folder = tmp_path_factory.mktemp("project")
    content = {"protocol": "base2new", "trainers": ["MaPLe", "ZeroshotCLIP"], "datasets": ["emoji_food"], "seeds": [1]}
    (folder / "emoji_food.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUT", str(folder / "output"))
        for trainer in content["trainers"]:
            for protocol in SMALL:
                assert run_protocol([protocol, trainer, "emoji_food", "1"]) == 0
        assert sweep.main([str(folder / "emoji_food.yaml"), "--output", str(folder / "output")]) == 0
    for name in ("photo.jpg", "photos/1.jpg"):
        make_image(folder / name, (200, 40, 40), seed=0)
    return folder


@pytest.fixture
def in_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project as current folder; OUTPUT elsewhere, so that no resolved run finds results."""
    monkeypatch.setenv("OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.chdir(project)
    return project


#: Starts of commands that are cheap enough to run -> the module whose `main` runs them in this process.
RUN = {
    "python report.py": "report",
    "python parse_test_res.py": "parse_test_res",
    "python interpret_prompts/interpret_prompt.py": "interpret_prompt",
    "bash scripts/repeat.sh": "experiments.repeat",
    "python predict.py": "predict",
}


@pytest.mark.parametrize("command", ALL, ids=[f"{command.page} {command}" for command in ALL])
def test_command(command: Command, in_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the docs runs, resolves, or is listed in NOT_RUN."""
    if any(str(command).startswith(start) for start in NOT_RUN):
        return
    if command.is_mention:
        assert (ROOT / command.words[1]).is_file()
        return
    for start, module in RUN.items():
        if str(command).startswith(start):
            monkeypatch.syspath_prepend(str(ROOT / "interpret_prompts"))
            assert importlib.import_module(module).main(command.words[2:]) == 0
            return
    resolve(command.words, tmp_path, monkeypatch)


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
        (["bash", "scripts/maple/base2new_train.sh"], AssertionError),
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


@pytest.mark.parametrize("page", ["README.md", "docs/predict.md"])
def test_the_python_of_a_page_runs(page: str, in_project: Path) -> None:
    """The snippets run as they are, but on the small project's run and image."""
    for text in code(page, "python"):
        exec(re.sub(r"output/[\w/.+-]+", RUN_FOLDER, text), {"__name__": "readme"})


@pytest.mark.slow
def test_the_examples_of_contributing_run(tmp_path: Path, tiny_path: Path) -> None:
    """The trainer and the data set of CONTRIBUTING.md, in a copy of the project, train and test together."""
    trainer, dataset = code("CONTRIBUTING.md", "python")
    for name in ("clip", "dassl", "datasets", "experiments", "inference", "trainers", "untrusted"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("assets", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "train.py", tmp_path)
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
        f"scripts/sweep.sh emoji_food --trainers ZeroshotCLIP --seeds 1 --output {tmp_path / 'sweep'}",
    ):
        script, *words = shlex.split(line)
        assert any(str(command).startswith(f"bash {script}") for command in COMMANDS)
        done = subprocess.run(
            ["bash", str(ROOT / script), *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert list((tmp_path / "sweep/sweeps").glob("*/report.html"))
