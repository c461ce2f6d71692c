"""Start-up: help, errors in flags, names and paths, and a finished run need no heavy import."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

_CODE = """
import sys
from {module} import main
try:
    code = main({argv})
except SystemExit as exit:
    code = exit.code
heavy = [name for name in ("torch", "torchvision", "sklearn", "open_clip") if name in sys.modules]
print("imported:", heavy, "code:", code, file=sys.stderr)
"""


def start(module, argv, cwd=ROOT):
    """Run a main function in a new process. Returns its output and errors."""
    code = _CODE.format(module=module, argv=[str(word) for word in argv])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )


def is_light(done, code):
    """Whether the process ended with this code, and without heavy imports."""
    return f"imported: [] code: {code}" in done.stderr


DTD = ("--dataset-config-file", "configs/datasets/dtd.yaml")
EMOJI = ("--dataset-config-file", "configs/datasets/emoji_food.yaml")


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--help"], 0, "--trainer"),
        (["--bogus"], 2, "unrecognized arguments: --bogus"),
        (["--trainer", "MaPLee"], 2, "Did you mean MaPLe"),
        ([], 2, "choose a trainer with --trainer"),
        (["--trainer", "MaPLe", "--dataset-config-file", "configs/datasets/dt.yaml"], 2, "Did you mean configs"),
        (["--trainer", "MaPLe", "--config-file", "x.yaml"], 2, "unknown config file 'x.yaml'"),
        (["--trainer", "MaPLe", *DTD, "DATASET.NAME", "EuroSat"], 2, "Did you mean EuroSAT"),
        (["--trainer", "MaPLe", *DTD, "DATASET.PATH", "/nowhere"], 2, "DATASET.PATH is /nowhere, which doesn't exist"),
        (["--trainer", "MaPLe", *DTD, "--root", "/nowhere"], 2, "/nowhere/dtd/images doesn't exist"),
        (["--trainer", "MaPLe", *EMOJI, "MODEL.BACKBONE.PATH", "/nowhere/x.pt"], 2, "PATH is /nowhere/x.pt"),
        (["--trainer", "MaPLe", *EMOJI, "--eval-only", "--model-dir", "/nowhere"], 2, "/nowhere/MultiModal"),
    ],
)
def test_train_starts_light(argv, code, message):
    done = start("train", argv)
    assert message in done.stdout + done.stderr
    assert is_light(done, code), done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--help"], 0, "usage: base2new_test.sh DATASET SEED"),
        (["dtd"], 2, "usage: base2new_test.sh DATASET SEED"),
        (["dtd", "1", "--trainer", "MaPLee"], 2, "Did you mean MaPLe"),
        (["dt", "1"], 2, "Did you mean"),
        (["dtd", "1", "DATASET.PATH", "/nowhere"], 2, "/nowhere, which doesn't exist"),
        (["emoji_food", "1", "--model-dir", "/nowhere"], 2, "nothing to test: /nowhere doesn't exist"),
    ],
)
def test_experiments_start_light(argv, code, message):
    done = start("experiments.run", ["base2new_test", "MaPLe", *argv])
    assert message in done.stdout + done.stderr
    assert is_light(done, code), done.stderr


def test_a_missing_torch_is_one_line(tmp_path):
    """With a Python that has no torch, a correct command line reports it in one line."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    command = [sys.executable, "train.py", "--trainer", "MaPLe", *EMOJI, "--output-dir", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {sys.executable} has no torch: activate your environment, or let bash scripts/demo.sh make one\n"
    )


def test_another_package_with_our_name_is_named(tmp_path):
    """A script that imports Hugging Face's `datasets` before this project gets the reason in one line."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/__init__.py").touch()
    argv = ["--trainer", "MaPLe", *EMOJI, "--output-dir", str(tmp_path / "out")]
    code = f"import datasets, sys; sys.path.insert(0, {str(ROOT)!r}); import train; sys.exit(train.main({argv}))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: `datasets` was imported from {tmp_path / 'datasets/__init__.py'}, not from this project. "
        "Import the project's modules first\n"
    )


def test_a_finished_run_is_recognised_without_torch(zero_shot_argv):
    import train

    assert train.main(zero_shot_argv) == 0
    done = start("train", zero_shot_argv)
    assert done.stdout.startswith("Finished already, nothing to do: the result of this config is in ")
    assert is_light(done, 0), done.stderr
