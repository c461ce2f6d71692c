"""Sweeps: every file plans, a failure stays its own, a kill changes nothing, every launcher gives the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import ROOT, result_of

import train
from dassl.utils import InputError
from experiments import plan as plans
from experiments import repeat, sweep


@pytest.fixture(autouse=True)
def _output_stays(monkeypatch):
    """sweep.py sets OUTPUT in its process: not for the tests after."""
    monkeypatch.setenv("OUTPUT", "output")


@pytest.mark.parametrize("name", sorted(path.stem for path in plans.FILES.glob("*.yaml")))
def test_every_file_plans(name, tmp_path, monkeypatch):
    """Every run has a folder of its own, below OUTPUT, and says what will be in it."""
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    declared = plans.Sweep.read(name)
    narrowed = declared.narrowed({"datasets": ",".join(declared.datasets[:2]), "seeds": "1"}, [])
    runs = [run for job in plans.plan(narrowed) for run in job]
    assert {run.state for run in runs} == {"to do"}
    assert len({run.folder for run in runs}) == len(runs)
    assert all(run.folder.startswith(str(tmp_path)) for run in runs)
    trainers = {spec.split()[0].split(":")[0] for spec in declared.trainers}
    assert {run.facts["trainer"] for run in runs} == trainers
    for key in ("depths", "lengths", "shots"):
        words = [word for run in runs for word in run.line]
        assert all(str(value) in words for value in getattr(declared, key))


def test_backbones_and_variants_have_names(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUT", "out")
    spec = "MaPLe --variant mine OPTIM.LR 0.1"
    declared = plans.Sweep("few_shot", [spec], ["dtd"], [1], [16], [3], [4], ["ViT-B/32", "X INPUT.SIZE (48,48)"])
    runs = [run for job in plans.plan(declared) for run in job]
    config = "vit_b16_c2_ep5_batch4_2ctx_mine_depth3_length4"
    assert [run.facts["config"] for run in runs] == [f"{config}_vit-b-32", f"{config}_x"]
    assert runs[1].folder == f"out/dtd/MaPLe/{config}_x_16shots/seed1"
    assert runs[1].line[-2:] == ["--variant", "mine_depth3_length4_x"]
    assert {"INPUT.SIZE", "(48,48)", "OPTIM.LR", "0.1", "TRAINER.MAPLE.N_CTX", "4"} <= set(runs[1].line)
    only = plans.Sweep("base2new", ["IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only"], ["dtd"], [1], depths=[3])
    words = plans.plan(only)[0][0].line
    assert "TRAINER.IVLP.PROMPT_DEPTH_TEXT" in words
    assert "TRAINER.IVLP.PROMPT_DEPTH_VISION" not in words  # switched off there


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("protocol: base2new", "must say protocol, trainers and datasets"),
        ("protocol: x\ntrainers: [MaPLe]\ndatasets: [dtd]", "unknown protocol"),
        ("protocol: base2new\ntrainers: MaPLe\ndatasets: [dtd]", "trainers must be a list of str"),
        ("protocol: base2new\ntrainers: [MaPLe]\ndatasets: [dtd]\nseeds: [one]", "seeds must be a list of int"),
        ("protocol: base2new\ntrainers: [MaPLe]\ndatasets: [dtd]\nsead: [1]", "Did you mean seeds"),
        ("protocol: base2new\ntrainers: [MaPle]\ndatasets: [dtd]", "Did you mean MaPLe"),
        ("protocol: base2new\ntrainers: [MaPLe]\ndatasets: [dt]", "unknown config file"),
        ("protocol: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_runs(content, message, tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text(content)
    assert sweep.main([str(file), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_words_are_refused(capsys):
    assert sweep.main(["nope"]) == 2
    assert "There is: base2new" in capsys.readouterr().err
    assert sweep.main(["emoji", "--seeds", "one"]) == 2
    assert "--seeds takes numbers" in capsys.readouterr().err
    if not shutil.which("sbatch"):
        assert sweep.main(["emoji", "--on", "slurm"]) == 2
        assert "no sbatch here" in capsys.readouterr().err


# ---- running ----


@pytest.fixture(scope="module")
def declared(tmp_path_factory, tiny_path, own_data):
    """A sweep of two methods on somebody's own data with the tiny CLIP: words for sweep.py."""
    file = tmp_path_factory.mktemp("sweep") / "own.yaml"
    options = [
        "DATASET.PATH", own_data, "MODEL.BACKBONE.PATH", tiny_path, "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", 4,
        "DATALOADER.NUM_WORKERS", 0, "TEST.SAVE_PREDICTIONS", True, "TRAINER.MAPLE.PROMPT_DEPTH", 2,
    ]  # fmt: skip
    content = {
        "protocol": "base2new", "trainers": ["ZeroshotCLIP", "MaPLe"], "datasets": ["folder"], "seeds": [1],
        "shots": [2], "options": " ".join(map(str, options)),
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    return file


def go(file, output, *words):
    """sweep.py as a process."""
    command = [sys.executable, "-m", "experiments.sweep", str(file), "--output", str(output), "--threads", "1", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    out, err = process.communicate()
    return process.returncode, out, err


def outcome(output):
    """Every result and prompt, but for times and commands."""
    found = {}
    for path in sorted(output.glob("base2new/**/result.json")):
        facts = result_of(path.parent)
        found[path.relative_to(output)] = {
            key: value for key, value in facts.items() if key not in ("seconds", "command", "text_chunk")
        }
        predictions = repeat._arrays(path.parent / "predictions.npz")
        found[path.relative_to(output)]["predictions"] = predictions
    for path in sorted(output.glob("base2new/**/model.pth.tar-*")):
        found[path.relative_to(output)] = repeat._prompts(path)
    return found


@pytest.fixture(scope="module")
def undisturbed(declared, tmp_path_factory):
    """(output folder, what it printed) of the sweep, run in one go."""
    output = tmp_path_factory.mktemp("undisturbed")
    code, out, err = finished(go(declared, output))
    assert code == 0, err
    return output, out


def test_it_ends_in_a_report(undisturbed):
    output, out = undisturbed
    assert "4 runs in 2 jobs: 4 to do" in out
    assert "4 runs in 2 jobs: 4 finished" in out
    assert "HM" in out
    assert len(outcome(output)) == 5  # four results, one checkpoint
    page = (output / "sweeps/own/report.html").read_text()
    assert '<figure id="confusion">' in page
    plan = json.loads((output / "sweeps/own/sweep.json").read_text())
    assert [run["state"] for run in plan["runs"]] == ["finished"] * 4


def test_what_is_finished_is_kept(undisturbed, declared):
    output, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in output.glob("base2new/**/*")}
    code, out, _ = finished(go(declared, output))
    assert (code, "4 runs in 2 jobs: 4 finished" in out) == (0, True)
    assert before == {path: path.stat().st_mtime_ns for path in output.glob("base2new/**/*")}


def test_killed_twice_it_ends_the_same(undisturbed, declared, tmp_path):
    """The first kill takes the sweep alone, whose run goes on and is waited for; the second takes the run too."""
    for number, whole_group in enumerate((False, True)):
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.sweep", str(declared), "--output", str(tmp_path), "--threads", "1"],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        pattern = "base2new/**/result.json" if number == 0 else "base2new/**/MultiModalPromptLearner/checkpoint"
        for _ in range(1200):
            if any(tmp_path.glob(pattern)):
                break
            time.sleep(0.05)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    code, _, err = finished(go(declared, tmp_path))
    assert code == 0, err
    assert outcome(tmp_path) == outcome(undisturbed[0])


def test_a_run_that_fails_is_named_and_leaves_the_others_alone(undisturbed, declared, tmp_path):
    content = yaml.safe_load(declared.read_text())
    content["trainers"] = ["MaPLe --variant bad OPTIM.NAME nope", "MaPLe"]
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(content))
    output, before = undisturbed[0], outcome(undisturbed[0])
    code, out, _ = finished(go(file, output))
    assert code == 1
    assert "4 runs in 2 jobs: 2 failed, 2 finished" in out
    assert "unknown optimiser (OPTIM.NAME) 'nope'" in out
    assert outcome(output) == before
    page = (output / "sweeps/bad/report.html").read_text()
    assert "failed: MaPLe (vit_b16_c2_ep5_batch4_2ctx_bad)" in page


@pytest.mark.parametrize("launcher", ["submitit", "ray"])
def test_every_launcher_gives_the_same(launcher, undisturbed, declared, tmp_path):
    pytest.importorskip(launcher)
    code, _, err = finished(go(declared, tmp_path, "--on", launcher, "--trainers", "MaPLe"))
    assert code == 0, err
    expected = {path: found for path, found in outcome(undisturbed[0]).items() if "MaPLe" in path.parts}
    assert len(expected) == 3  # two results, one checkpoint
    assert outcome(tmp_path) == expected
    assert (tmp_path / "sweeps/own-trainers_MaPLe/report.html").is_file()


# ---- repeating ----


def test_a_run_is_repeated_from_its_folder(undisturbed, capsys, tmp_path):
    trained = next(path.parent for path in undisturbed[0].glob("base2new/train_base/*/*/MaPLe/**/result.json"))
    assert repeat.main([str(trained), "--output", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    for name in (
        "result.json",
        "fewshot.json",
        "metrics.jsonl",
        "predictions.npz",
        "MultiModalPromptLearner/model.pth.tar-4",
    ):
        assert f"equal    {name}" in out
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    path = copy / "MultiModalPromptLearner/model.pth.tar-4"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["prompt_learner.ctx"][0, 0] += 1e-6
    torch.save(checkpoint, path)
    assert repeat.main([str(copy)]) == 1
    assert "DIFFERS  MultiModalPromptLearner/model.pth.tar-4" in capsys.readouterr().out


def test_a_test_is_repeated_too(undisturbed, capsys):
    tested = next(path.parent for path in undisturbed[0].glob("base2new/test_new/*/*/MaPLe/**/result.json"))
    assert repeat.main([str(tested)]) == 0
    assert "equal    predictions.npz" in capsys.readouterr().out


def test_what_can_not_be_repeated_is_said(run, tmp_path, capsys):
    assert repeat.main([str(tmp_path)]) == 2
    assert "it has no config.yaml" in capsys.readouterr().err
    assert run("SEED", "-1")[0] == 0
    assert repeat.main([str(tmp_path / "out")]) == 2
    assert "was not seeded" in capsys.readouterr().err


def test_one_process_at_a_time_in_a_folder(tmp_path, capsys):
    """A second one waits, and then finds the run finished."""
    from filelock import FileLock, Timeout

    from dassl.engine.run_folder import exclusive_lock

    with exclusive_lock(tmp_path), pytest.raises(Timeout):
        FileLock(tmp_path / ".lock").acquire(timeout=0)
    FileLock(tmp_path / ".lock").acquire(timeout=0)


@pytest.mark.parametrize("trainer", ["MaPLe", "CoCoOp"])
def test_neither_workers_nor_resumes_change_a_bit(trainer, run, tmp_path):
    """0, 1 and 2 workers, and a stop after every epoch: bit-equal prompts and logits."""
    words = ["OPTIM.MAX_EPOCH", 3, "TEST.SAVE_PREDICTIONS", "True", "TRAIN.CHECKPOINT_FREQ", 1]
    for workers in (0, 1, 2):
        assert run(*words, "DATALOADER.NUM_WORKERS", workers, trainer=trainer, output=tmp_path / str(workers))[0] == 0
    first = tmp_path / "0"
    for workers in (1, 2):
        assert all(same for _, same in repeat.compare(first, tmp_path / str(workers)))
    for epoch in (1, 2):  # as if it had been cut off after that epoch
        cut = tmp_path / f"cut{epoch}"
        shutil.copytree(first, cut)
        for name in ("result.json", "predictions.npz"):
            (cut / name).unlink()
        for folder in (path for path in cut.iterdir() if (path / "checkpoint").is_file()):
            for later in range(epoch + 1, 4):
                (folder / f"model.pth.tar-{later}").unlink()
            (folder / "checkpoint").write_text(f"model.pth.tar-{epoch}\n")
        assert run(*words, trainer=trainer, output=cut)[0] == 0
        compared = dict(repeat.compare(first, cut))
        assert all(compared.values()), compared
        assert "predictions.npz" in compared


def test_an_unknown_trainer_is_an_input_error():
    with pytest.raises(InputError, match="Did you mean MaPLe"):
        plans.PlannedRun.of(["base2new_train", "Maple", "dtd", "1"])
    assert train.ROOT == ROOT
