"""Damaged files in folders of runs: a report names the run and shows the others, and other commands refuse it."""

import json
import shutil

import fuzz
import numpy as np
import pytest
from fuzz_inputs import damaged_arrays, damaged_json
from hypothesis import strategies as st

import parse_test_res
import report
import train
from experiments import repeat
from reporting.read import read
from tools import picture


@pytest.fixture
def folder(zero_shot_argv, tmp_path):
    """The folder of two finished runs: base/ will be damaged, and new/ stays as it is."""
    for part in ("base", "new"):
        words = ["--output-dir", str(tmp_path / "runs" / part), "DATASET.SUBSAMPLE_CLASSES", part]
        assert train.main([*zero_shot_argv, *words, "TEST.SAVE_PREDICTIONS", "True"]) == 0
    lines = [json.dumps({"epoch": 1, "batch": n, "loss": 3 / n}) for n in range(1, 9)]
    (tmp_path / "runs/base/metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run = {"folder": "../runs/base", "state": "failed", "error": "", "job": 0, "line": ["few_shot"]}
    run["facts"] = {"dataset": "x", "trainer": "MaPLe", "seed": 1, "shots": 1, "config": "c", "backbone": "ViT-B/16"}
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/sweep.json").write_text(json.dumps({"runs": [run, run]}), encoding="utf-8")
    return tmp_path


_FILES = ["result.json", "result.json", "metrics.jsonl", "predictions.npz", "config.yaml", "sweep.json"]


@st.composite
def damages(draw, contents):
    """Pairs (name of a file, its damaged content). `contents` maps names to whole contents."""
    name = draw(st.sampled_from(_FILES))
    content = contents[name]
    if name in ("result.json", "sweep.json"):
        return name, draw(damaged_json(json.loads(content)))
    if name == "metrics.jsonl":
        first, *lines = content.splitlines()
        return name, b"\n".join([draw(damaged_json(json.loads(first))), *lines])
    if name == "predictions.npz" and draw(st.booleans()):
        return name, draw(damaged_arrays())
    start = draw(st.integers(0, len(content) - 1))
    return name, content[:start] + draw(st.sampled_from([b"", b"\x00", content[start + 1 :], b"\xff: [*a"]))


def test_damaged_files_of_runs(folder, zero_shot_argv, tmp_path):
    number = 0
    commands = st.sampled_from(["report", "report", "html", "parse", "repeat", "train", "picture"])
    before = folder / "before"
    shutil.copytree(folder / "runs", before)
    contents = {name: (before / "base" / name).read_bytes() for name in _FILES if name != "sweep.json"}
    contents["sweep.json"] = (folder / "sweep/sweep.json").read_bytes()

    def attempt(case):
        nonlocal number
        number += 1
        (name, content), command = case
        shutil.rmtree(folder / "runs")
        shutil.copytree(before, folder / "runs")
        runs, damaged = folder / "runs", folder / "runs/base"
        if name == "sweep.json":
            (folder / "sweep/sweep.json").write_bytes(content)
            return fuzz.problem(report.main, [str(folder / "sweep")])
        (damaged / name).write_bytes(content)
        if command == "report":
            return fuzz.problem(
                report.main, [str(runs), "--format", "json"], "succeeds", shows='"trainer": "ZeroshotCLIP"'
            )
        if command == "html":
            return fuzz.problem(report.main, [str(runs), "--html", str(folder / "page.html")], "succeeds")
        if command == "parse":
            return fuzz.problem(parse_test_res.main, [str(runs)])
        if command == "repeat":
            return fuzz.problem(repeat.main, [str(damaged), "--output", str(folder / f"repeated{number}")])
        if command == "picture":
            return fuzz.problem(picture.main, [str(runs), str(folder / "picture.png")])
        words = ["--output-dir", str(damaged), "DATASET.SUBSAMPLE_CLASSES", "base", "TEST.SAVE_PREDICTIONS", "True"]
        return fuzz.problem(train.main, [*zero_shot_argv, *words])

    fuzz.check(st.tuples(damages(contents), commands), 20, 150, attempt)


def test_a_damaged_run_is_named_and_the_others_are_reported(folder):
    (folder / "runs/base/result.json").write_text('{"dataset": "x", "accuracy": NaN}', encoding="utf-8")
    runs, notes = read(folder / "runs")
    assert list(runs["part"]) == ["new"]
    assert len(notes) == 1
    assert str(folder / "runs/base/result.json") in notes[0]


def test_names_with_special_characters_are_text(folder, capsys):
    path = folder / "runs/base/result.json"
    names = {"$x_{1": 50.0, "\\frac{": 20.0, "a|b\nc": 10.0, "🦉": 0.0}
    result = json.loads(path.read_text(encoding="utf-8")) | {"trainer": "A_$%&#{}~^\\", "per_class": names}
    del result["checksum"]
    for part in ("base", "new"):
        other = result | {"subsample_classes": part, "trained_on": "Folder"}
        (folder / f"runs/{part}2").mkdir()
        (folder / f"runs/{part}2/result.json").write_text(json.dumps(other), encoding="utf-8")
    assert report.main([str(folder / "runs"), "--format", "latex", "--html", str(folder / "page.html")]) == 0
    assert r"A\_\$\%\&\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} &" in capsys.readouterr().out
    assert "A_$%&amp;#{}~^\\" in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": np.zeros((2, 3))}, "label"),
        ({"logits": np.full((2, 3), np.nan), "label": np.zeros(2, int)}, "infinite or NaN"),
        ({"logits": np.zeros((2, 3)), "label": np.array([0, 3])}, "class numbers from 0 to 2"),
        ({"logits": np.zeros((2, 3)), "label": np.zeros(3, int)}, "don't fit together"),
    ],
)
def test_wrong_predictions_are_refused(folder, arrays, message, capsys):
    np.savez(folder / "runs/base/predictions.npz", **arrays)
    assert picture.main([str(folder / "runs"), str(folder / "picture.png")]) == 2
    assert message in capsys.readouterr().err
