"""Running sweeps: failures stay separate, kills change nothing, and all launchers give the same results."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT, depth_words, result_of

from experiments import launchers, repeat, sweep

#: The methods that learn prompts on a single data set.
METHODS = [
    "CoOp", "CoCoOp", "MaPLe", "IVLP", "VPT", "LanguagePrompting", "KgCoOp", "ProGrad", "PromptSRC", "TCP", "CoPrompt",
]  # fmt: skip


def write_sweep(file, trainers, tiny_path, own_data, *options):
    """Declare a sweep of these methods on a user's own data with the tiny CLIP."""
    common = [
        "DATASET.PATH", own_data, "MODEL.BACKBONE.PATH", tiny_path, "INPUT.SIZE", "(32,32)",
        "DATALOADER.NUM_WORKERS", 0, "TEST.SAVE_PREDICTIONS", True,
    ]  # fmt: skip
    depths = [word for trainer in trainers for word in depth_words(trainer, 2)]
    content = {
        "protocol": "base2new", "trainers": trainers, "datasets": ["folder"], "seeds": [1], "shots": [2],
        "options": " ".join(map(str, [*common, *depths, *options])),
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def declared(tmp_path_factory, tiny_path, own_data):
    """File of a sweep of two methods."""
    file = tmp_path_factory.mktemp("sweep") / "own.yaml"
    return write_sweep(file, ["ZeroshotCLIP", "MaPLe"], tiny_path, own_data, "OPTIM.MAX_EPOCH", 4)


def start(file, output, *options):
    """Start sweep.py in a new process."""
    command = [
        sys.executable,
        "-m",
        "experiments.sweep",
        str(file),
        "--output",
        str(output),
        "--threads",
        "1",
        *options,
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    """Exit code, output and errors of a process that ends."""
    out, err = process.communicate()
    return process.returncode, out, err


def outcome(output):
    """Every result and every prompt of a sweep, without times and commands."""
    found = {}
    for path in sorted(output.glob("base2new/**/result.json")):
        result = result_of(path.parent)
        found[path.relative_to(output)] = {
            key: value for key, value in result.items() if key not in ("seconds", "command", "text_chunk", "checksum")
        }
        del found[path.relative_to(output)]["files"]["config.yaml"]  # it holds the output folder
        found[path.relative_to(output)]["predictions"] = repeat.arrays(path.parent / "predictions.npz")
    for path in sorted(output.glob("base2new/**/model.pth.tar-*")):
        found[path.relative_to(output)] = repeat.prompts(path)
    return found


@pytest.fixture(scope="module")
def undisturbed(declared, tmp_path_factory):
    """(output folder, printed output) of the sweep, run without interruption."""
    output = tmp_path_factory.mktemp("undisturbed")
    code, out, err = finished(start(declared, output))
    assert code == 0, err
    return output, out


def test_a_sweep_ends_in_a_report(undisturbed):
    output, out = undisturbed
    assert "4 runs in 2 jobs: 4 to do" in out
    assert "4 runs in 2 jobs: 4 finished" in out
    assert "HM" in out
    assert len(outcome(output)) == 6  # four results, the last two checkpoints
    page = (output / "sweeps/own/report.html").read_text()
    assert '<figure id="confusion">' in page
    plan = json.loads((output / "sweeps/own/sweep.json").read_text())
    assert [run["state"] for run in plan["runs"]] == ["finished"] * 4


def test_finished_runs_are_skipped(undisturbed, declared):
    output, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in output.glob("base2new/**/*")}
    code, out, _ = finished(start(declared, output))
    assert (code, "4 runs in 2 jobs: 4 finished" in out) == (0, True)
    assert before == {path: path.stat().st_mtime_ns for path in output.glob("base2new/**/*")}


def start_and_kill(file, output, pattern, whole_group):
    """Start a sweep in a new process, and kill it as soon as a file of its output matches `pattern`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", str(file), "--output", str(output), "--threads", "1"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not any(output.glob(pattern)):
        time.sleep(0.05)
    assert any(output.glob(pattern)), "the sweep ended before it could be killed"
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_sweep_that_is_killed_twice_ends_the_same(undisturbed, declared, tmp_path):
    """The first kill ends the sweep only: its run continues, and the next sweep waits for it. The second ends both."""
    start_and_kill(declared, tmp_path, "base2new/**/result.json", whole_group=False)
    start_and_kill(declared, tmp_path, "base2new/**/MultiModalPromptLearner/checkpoint", whole_group=True)
    code, _, err = finished(start(declared, tmp_path))
    assert code == 0, err
    assert outcome(tmp_path) == outcome(undisturbed[0])


@pytest.mark.long
def test_a_sweep_of_all_methods_that_is_killed_ends_the_same(tiny_path, own_data, tmp_path):
    """Each kill ends a run of a method whose training keeps more than prompts: an average, or random sentences."""
    words = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
    file = write_sweep(tmp_path / "all.yaml", METHODS, tiny_path, own_data, *words)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code, out, err = finished(start(file, whole))
    assert (code, "22 runs in 11 jobs: 22 finished" in out) == (0, True), err
    for method in ("PromptSRC", "CoPrompt"):
        start_and_kill(file, cut, f"base2new/train_base/**/{method}/**/checkpoint", whole_group=True)
    code, _, err = finished(start(file, cut))
    assert code == 0, err
    assert len(outcome(whole)) >= 33  # 22 results, and checkpoints of eleven methods
    assert outcome(cut) == outcome(whole)


def test_a_failed_run_is_named_and_does_not_stop_the_others(undisturbed, declared, tmp_path):
    content = yaml.safe_load(declared.read_text())
    content["trainers"] = ["MaPLe --variant bad OPTIM.NAME nope", "MaPLe"]
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(content))
    output, before = undisturbed[0], outcome(undisturbed[0])
    code, out, _ = finished(start(file, output))
    assert code == 1
    assert "4 runs in 2 jobs: 2 failed, 2 finished" in out
    assert "unknown OPTIM.NAME 'nope'" in out
    assert outcome(output) == before
    page = (output / "sweeps/bad/report.html").read_text()
    assert "failed: MaPLe (vit_b16_c2_ep5_batch4_2ctx_bad)" in page


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit", "ray"])
def test_every_launcher_gives_the_same_results(launcher, undisturbed, declared, tmp_path):
    pytest.importorskip(launcher)
    code, _, err = finished(start(declared, tmp_path, "--on", launcher, "--trainers", "MaPLe"))
    assert code == 0, err
    expected = {path: found for path, found in outcome(undisturbed[0]).items() if "MaPLe" in path.parts}
    assert len(expected) == 4  # two results, the last two checkpoints
    assert outcome(tmp_path) == expected
    assert (tmp_path / "sweeps/own-trainers_MaPLe/report.html").is_file()


def test_several_gpus_for_each_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    words = sweep.command([], tmp_path / "log", threads=1, processes=2)
    place = words.index("torch.distributed.run")
    expected = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "experiments.run"]
    assert words[place - 1 :] == expected
    assert "torch.distributed.run" not in sweep.command([], tmp_path / "log", threads=1, processes=1)
    devices = ["0", "1", "2", "3", "4"]
    assert [launchers.devices_of(slot, devices, 2) for slot in range(3)] == [["0", "1"], ["2", "3"], ["0", "1"]]


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["local", "submitit"])
def test_a_sweep_with_two_processes_for_each_run(launcher, undisturbed, declared, tmp_path):
    code, _, err = finished(start(declared, tmp_path, "--on", launcher, "--gpus-per-run", "2"))
    assert code == 0, err
    for path, expected in outcome(undisturbed[0]).items():
        if path.name == "result.json":
            result = result_of((tmp_path / path).parent)
            assert result["processes"] == 2
            assert result["accuracy"] == expected["accuracy"]
