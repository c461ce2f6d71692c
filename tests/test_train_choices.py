"""Silent choices: what a user asks for is done, or refused in one line. Nothing is guessed."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, result_of

import report
from dassl.utils import read_json
from experiments import run as launcher
from experiments import sweep


def test_the_best_model_needs_validation_images(run, own_data, tmp_path):
    """Otherwise, the test images would choose it."""
    rows = [
        {"path": str(path), "class": path.parent.name, "split": "test" if path.stem > "3" else "train"}
        for path in sorted(own_data.glob("*/*.png"))
    ]
    (tmp_path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    words = ("DATASET.PATH", tmp_path / "list.json", "TEST.FINAL_MODEL", "best_val")
    code, _, err = run(*words, trainer="CoOp")
    assert (code, "TEST.FINAL_MODEL best_val needs validation images" in err) == (2, True)
    assert not (tmp_path / "out/result.json").exists()


def test_the_output_folder_is_never_inside_the_data(run, own_data, tmp_path):
    shutil.copytree(own_data, tmp_path / "data")
    for output in ("data", "data/out", "data/blue/out"):
        code, _, err = run("DATASET.PATH", tmp_path / "data", output=tmp_path / output)
        assert (code, "is inside the data folder" in err) == (2, True)
    assert sum(path.is_file() for path in (tmp_path / "data").rglob("*")) == 24


def test_an_output_folder_may_have_the_name_of_a_log(run, tmp_path):
    assert run(trainer="ZeroshotCLIP", output=tmp_path / "x.log")[0] == 0
    assert (tmp_path / "x.log/result.json").is_file()
    assert (tmp_path / "x.log/log.txt").is_file()


@pytest.mark.parametrize("variant", ["../../x", "/x", "a/b", "a\\b", "a\nb"])
def test_a_variant_is_no_path(variant, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    assert launcher.main(["few_shot", "ZeroshotCLIP", "dtd", "1", "--variant", variant]) == 2
    assert "--variant is a part of a folder's name" in capsys.readouterr().err
    (tmp_path / "x.yaml").write_text(
        json.dumps({"protocol": "few_shot", "trainers": ["MaPLe"], "datasets": ["dtd"], "options": ""}), "utf-8"
    )
    assert sweep.main([str(tmp_path / "x.yaml"), "--output", str(tmp_path / "out"), "--variant", variant]) == 2
    assert not (tmp_path / "out").exists()


def sweep_file(folder, **changes):
    content = {"protocol": "few_shot", "trainers": ["ZeroshotCLIP"], "datasets": ["dtd"], "seeds": [1]}
    (folder / "own.yaml").write_text(json.dumps(content | changes), encoding="utf-8")
    return str(folder / "own.yaml")


@pytest.mark.parametrize("key", ["trainers", "datasets", "seeds", "shots"])
def test_a_sweep_of_nothing_fails(key, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    assert sweep.main([sweep_file(tmp_path, **{key: []}), "--dry-run"]) == 2
    assert f"{key} must be a list of" in capsys.readouterr().err
    assert sweep.main([sweep_file(tmp_path), "--dry-run", f"--{key}", ","]) == 2


@pytest.mark.parametrize("failing", ["a run", "the report"])
def test_a_sweep_whose_report_fails_fails(failing, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    state = "finished" if failing == "the report" else "to do"

    def execute(jobs, *words):
        for run in itertools.chain(*jobs):
            run.state = state

    monkeypatch.setattr(sweep, "execute", execute)
    monkeypatch.setattr(report, "main", lambda argv: 2 if failing == "the report" else 0)
    assert sweep.main([sweep_file(tmp_path), "--output", str(tmp_path / "out")]) == 1


def test_a_latin_1_locale_changes_no_class_name(run, own_data, tmp_path, monkeypatch):
    """In such a locale, Python decodes the bytes of a file's name as Latin-1."""
    monkeypatch.setattr(os, "fsencode", lambda name: os.fspath(name).encode("latin-1"))
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("latin-1"))
    shutil.copytree(own_data, tmp_path / "data")
    (tmp_path / "data/blue").rename(tmp_path / "data/KÃ¤se")
    words = ("DATASET.PATH", tmp_path / "data")
    assert run(*words, trainer="ZeroshotCLIP")[0] == 0
    assert set(result_of(tmp_path / "out")["per_class"]) == {"Käse", "green thing", "grey", "red_thing"}
    paths = [path for path, *_ in read_json(tmp_path / "out/fewshot.json")["train"]]
    assert "Käse" in {path.split("/")[0] for path in paths}
    words = (*words, "DATASET.FEWSHOT_FILE", tmp_path / "out/fewshot.json")
    code, _, err = run(*words, trainer="ZeroshotCLIP", output=tmp_path / "same picks")
    assert code == 0, err


@pytest.mark.long
def test_an_ascii_locale_changes_no_class_name(zero_shot_argv, tmp_path):
    """With LC_ALL=C, Python decodes file names and, without an encoding, text files as ASCII."""
    (tmp_path / "data/blue").rename(tmp_path / "data/Käse")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "train.py", *zero_shot_argv, "TEST.SAVE_PREDICTIONS", "True"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "Käse" in result_of(tmp_path / "out")["per_class"]
    assert "Käse" in (tmp_path / "out/log.txt").read_text(encoding="utf-8")
    assert "Käse/4.png,Käse," in (tmp_path / "out/predictions.csv").read_text(encoding="utf-8")
