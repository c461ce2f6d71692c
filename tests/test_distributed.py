"""Several processes, connected with gloo on the CPU, train and test as a single process does."""

import json
import os
import subprocess
import sys
import time

import distributed_jobs
import numpy as np
import psutil
import pytest
import several_processes
import torch
from conftest import ROOT, depth_words, result_of
from distributed_jobs import VARIANTS
from tiny_methods import TRAINERS

from dassl.utils import load_checkpoint

CASES = [*TRAINERS, *VARIANTS]
#: {case: tolerance in float32}, if it isn't 1e-4. This case amplifies rounding; in float64 it agrees to 1e-9.
TOLERANCE = {"sampled classes": 1e-2}


@pytest.fixture(scope="module")
def trained():
    """trained(processes, dtype, steps) -> {case: results of the main process}. Every combination runs only once."""
    found = {}

    def run(processes, dtype="float64", steps=20):
        key = processes, dtype, steps
        if key not in found:
            found[key] = several_processes.run(processes, distributed_jobs.train_all, steps, dtype)[0]
        return found[key]

    return run


def assert_close(ours, expected, tolerance):
    for name, one, other in zip(ours._fields, ours, expected, strict=True):
        assert one.shape == other.shape
        error = (np.abs(one - other) / np.abs(other).clip(min=1)).max(initial=0.0)
        assert error <= tolerance, f"{name} differ by {error:.2g}"


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(case, trained):
    """Losses, parameters and logits are equal in float64. All processes draw the same random numbers."""
    assert_close(trained(2, steps=5)[case], trained(1, steps=5)[case], 1e-9)


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_processes_equal_one_after_20_steps(case, processes, trained):
    assert_close(trained(processes)[case], trained(1)[case], 1e-9)


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_processes_equal_one_in_float32(case, processes, trained):
    assert_close(trained(processes, "float32")[case], trained(1, "float32")[case], TOLERANCE.get(case, 1e-4))


def test_two_processes_repeat_the_same_bits(trained):
    names = ["MaPLe", "CoPrompt", "sampled classes"]
    again = several_processes.run(2, distributed_jobs.train_all, 5, "float64", names)[0]
    for name in names:
        assert all(np.array_equal(*pair) for pair in zip(again[name], trained(2, steps=5)[name], strict=True))


# ---- whole runs ----


@pytest.fixture
def argv(tiny_path, own_data, tmp_path):
    """argv(output, *words) -> arguments of train.py for four steps in two epochs, and a test in three batches."""

    def arguments(output, *words, trainer="MaPLe"):
        return [
            "--trainer", trainer, "--seed", "1", "--root", tmp_path, "--output-dir", output,
            "--dataset-config-file", "configs/datasets/folder.yaml", "MODEL.BACKBONE.PATH", tiny_path,
            "INPUT.SIZE", "(32,32)", "DATASET.PATH", own_data, "DATASET.NUM_SHOTS", 2, "OPTIM.MAX_EPOCH", 2,
            "DATALOADER.NUM_WORKERS", 0, "DATALOADER.TEST.BATCH_SIZE", 3, "TEST.SAVE_PREDICTIONS", True,
            *depth_words(trainer, 2), *words,
        ]  # fmt: skip

    return arguments


def outcome(folder, checkpoint):
    """Losses, predictions and parameters of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with np.load(folder / "predictions.npz") as saved:
        predictions = {name: saved[name] for name in ("impath", "label", "logits")}
    state = load_checkpoint(folder / checkpoint)["state_dict"]
    return [line.get("loss") for line in lines], predictions, state


def assert_same_run(folder, expected, checkpoint):
    (losses, predictions, state), (losses_1, predictions_1, state_1) = (
        outcome(each, checkpoint) for each in (folder, expected)
    )
    assert losses == pytest.approx(losses_1, abs=1e-4)
    assert list(predictions["impath"]) == list(predictions_1["impath"])
    assert np.array_equal(predictions["label"], predictions_1["label"])
    assert np.abs(predictions["logits"] - predictions_1["logits"]).max() < 1e-3
    assert all(torch.allclose(state[name], tensor, atol=1e-4) for name, tensor in state_1.items())


LAST = {"MaPLe": "MultiModalPromptLearner/model.pth.tar-2", "LinearProbe": "linear_probe/model.pth.tar-1"}


@pytest.mark.parametrize("trainer", LAST)
def test_a_run_of_two_processes_equals_one(trainer, argv, tmp_path, monkeypatch):
    """Metrics, predictions and prompts. LinearProbe uses cached features, which are made by both processes."""
    for processes in (1, 2):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{processes}"))
        words = argv(tmp_path / f"out{processes}", trainer=trainer)
        found = several_processes.run(processes, distributed_jobs.run_main, words, os.environ["XDG_CACHE_HOME"])
        assert [code for code, _, _ in found] == [0] * processes, found
    assert "Finished training" in found[0][1]
    assert found[1][1:] == ("", "")  # only the main process prints
    assert_same_run(tmp_path / "out2", tmp_path / "out1", LAST[trainer])
    assert result_of(tmp_path / "out2")["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_other_processes_resume(argv, tmp_path):
    words, started = argv(tmp_path / "cut"), time.time()
    main, last = several_processes.run(2, distributed_jobs.run_main, words, "", 1)
    assert last is None
    assert time.time() - started < 60  # starting takes most of the time
    assert (main[0], main[2]) == (1, "error: process 1 of 2 was killed or hangs. Repeat the command to resume\n")
    ((code, out, err),) = several_processes.run(1, distributed_jobs.run_main, words)
    assert code == 0, err
    assert "will resume training" in out
    several_processes.run(1, distributed_jobs.run_main, argv(tmp_path / "whole"))
    assert_same_run(tmp_path / "cut", tmp_path / "whole", LAST["MaPLe"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DATALOADER.TRAIN_X.BATCH_SIZE", 3], "2 processes can't share a batch of 3 images equally"),
        (["--seed", "-1"], "Set a seed, for example --seed 1"),
        (["--trainer", "NoSuch"], "unknown trainer 'NoSuch'"),
    ],
)
def test_a_wrong_input_is_reported_once(words, message, argv, tmp_path):
    found = several_processes.run(2, distributed_jobs.run_main, argv(tmp_path / "out", *words))
    lines = [line for _, _, err in found for line in err.splitlines()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: process ")
    assert message in lines[0]


@pytest.mark.slow
def test_a_hanging_process_ends_the_run(argv, tmp_path):
    main, _ = several_processes.run(2, distributed_jobs.run_main, argv(tmp_path / "out"), "", 1, True)
    assert (main[0], main[2]) == (1, "error: process 1 of 2 was killed or hangs. Repeat the command to resume\n")


@pytest.mark.slow
def test_torchrun_starts_the_processes_and_restarts_them_after_a_kill(argv, tmp_path):
    words = ["OPTIM.MAX_EPOCH", 12, "TEST.FINAL_MODEL", "best_val"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "train.py", *map(str, argv(tmp_path / "cut", *words))]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while not (tmp_path / "cut/MultiModalPromptLearner/model.pth.tar-2").exists():
        assert started.poll() is None
        time.sleep(0.1)
    (killed,) = [p for p in psutil.Process(started.pid).children(True) if p.environ().get("RANK") == "1"]
    killed.kill()
    out, _ = started.communicate(timeout=300)
    assert started.returncode == 0, out
    assert out.count("will resume training") == 1
    several_processes.run(1, distributed_jobs.run_main, argv(tmp_path / "whole", *words))
    assert_same_run(tmp_path / "cut", tmp_path / "whole", "MultiModalPromptLearner/model.pth.tar-12")


@pytest.mark.long
def test_benchmarks_with_two_processes(tiny_path, capsys):
    import communication

    assert communication.main(["--processes", "2", "--classes", "5", "--repeats", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] > 0
