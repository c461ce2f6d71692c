"""predict.py and `Classifier`: what is named, what is printed, other classes, and errors."""

import csv
import io
import json
import shutil

import pytest
from conftest import make_image
from PIL import Image

import predict
from dassl.utils import InputError
from inference import Classifier
from inference.words import find_images


@pytest.fixture
def classify(trained, capsys, monkeypatch, tmp_path):
    """classify(*words, run=CoOp's) -> (exit code, stdout, stderr) of predict.py, started in an empty folder."""
    run, images = trained("CoOp")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def classify(*words, folder=run):
        try:
            code = predict.main([str(folder), *map(str, words), "--device", "cpu"])
        except SystemExit as stop:  # argparse
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    classify.images = images
    return classify


def test_the_three_formats_hold_the_same_predictions(classify, tmp_path):
    photo = classify.images / "grey/0.png"
    code, table, _ = classify(photo, "--topk", "2")
    assert code == 0
    assert classify(photo, "--topk", "2", "--format", "json", "--output", tmp_path / "out.json")[:2] == (0, "")
    (found,) = json.loads((tmp_path / "out.json").read_text())
    (row,) = csv.DictReader(io.StringIO(classify(photo, "--topk", "2", "--format", "csv")[1]))
    assert found["image"] == row["image"] == str(photo)
    for rank, best in enumerate(found["predictions"], 1):
        assert row[f"class_{rank}"] == best["class"]
        assert float(row[f"score_{rank}"]) == best["score"]
        assert best["class"] in table
        assert f"{100 * best['score']:.1f}%" in table
    assert found["predictions"][0]["score"] >= found["predictions"][1]["score"]


def test_an_unreadable_image_is_one_line_and_the_others_are_classified(classify, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    good = classify.images / "blue/0.png"
    code, out, err = classify(good, "bad.jpg", "missing.png", classify.images / "blue/1.png", "--batch", "2")
    assert code == 1
    assert len(out.splitlines()) == 2
    errors = [line for line in err.splitlines() if line.startswith("error")]
    assert [name in line for name, line in zip(("bad.jpg", "missing.png"), errors, strict=True)] == [True, True]
    assert json.loads(classify("bad.jpg", "--format", "json")[1]) == []


def test_images_are_files_folders_globs_and_lines(tmp_path):
    for name in ("a/b/1.jpg", "a/2.PNG", "a/.hidden/3.jpg", "4.jpg"):
        make_image(tmp_path / name.lower(), (1, 2, 3), 0)
    (tmp_path / "a/notes.txt").write_text("")
    folder, glob = str(tmp_path / "a"), str(tmp_path / "*.jpg")
    found = find_images([folder, glob, "-", str(tmp_path / "4.jpg")], ["x y.jpg\n", "\n", "z.jpg"])
    names = ["a/2.png", "a/b/1.jpg", "4.jpg"]
    assert found == [*(str(tmp_path / name) for name in names), "x y.jpg", "z.jpg"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["*.jpg"], "no file matches *.jpg"),
        (["."], "have no images"),
        (["-"], "no images are named"),
        (["x.jpg", "--topk", "0"], "--topk must be at least 1"),
        (["x.jpg", "--classes", "cat,cat"], "'cat' occurs twice"),
        (["x.jpg", "--classes", "cat,"], "a name is empty"),
    ],
)
def test_a_wrong_word_is_one_line(classify, monkeypatch, words, message):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = classify(*words)
    assert code == 2
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(("run", "message"), [("nowhere", "isn't a folder"), (".", "it has no config.yaml")])
def test_a_folder_that_is_no_run_is_one_line(classify, run, message):
    code, _, err = classify("x.jpg", folder=run)
    assert (code, message in err) == (2, True)


def test_an_unknown_device_is_one_line(trained):
    with pytest.raises(InputError, match="the device nonsense can't be used"):
        Classifier.from_run(trained("CoOp")[0], device="nonsense")


def test_other_classes(classify, tmp_path):
    """Names in a list or in a file."""
    photo = classify.images / "grey/0.png"
    (tmp_path / "names.txt").write_text("﻿a cat\n\ndog\n", encoding="utf-8")
    listed, filed = classify(photo, "--classes", "a cat, dog"), classify(photo, "--classes", tmp_path / "names.txt")
    assert listed[:2] == filed[:2]
    assert "a cat" in listed[1]


def test_python_takes_paths_and_pil_images(classify):
    photo = classify.images / "grey/0.png"
    classifier = Classifier.load(classify.images.parent / "run", device="cpu")
    with Image.open(photo) as image:
        by_path, by_image = classifier.predict([str(photo), image], topk=9, batch=1)
    assert by_path.scores == by_image.scores
    assert by_path.image == str(photo)
    assert sum(by_path.scores) == pytest.approx(1)
    assert len(by_path.classes) == 4
    assert classifier.features(photo).norm().item() == pytest.approx(1)
    with pytest.raises(InputError, match="can't read the image"):
        classifier.predict("missing.jpg")


def test_a_test_run_uses_the_prompts_that_it_tested(run, trained, tmp_path, monkeypatch):
    """The run of a test on new classes knows these classes, and finds the prompts by their relative path."""
    monkeypatch.chdir(tmp_path)
    code, _, err = run("DATASET.SUBSAMPLE_CLASSES", "base", output="base")
    assert code == 0, err
    words = ("--eval-only", "--model-dir", "base", "DATASET.SUBSAMPLE_CLASSES", "new")
    code, _, err = run(*words, output="new")
    assert code == 0, err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Classifier.from_run(tmp_path / "new").classes == ["grey", "red_thing"]
    assert Classifier.from_run(tmp_path / "base").classes == ["blue", "green thing"]
    (tmp_path / "base/classifier.json").unlink()  # as in runs of older versions
    assert Classifier.from_run(tmp_path / "base").classes == ["blue", "green thing"]


def test_a_damaged_record_is_one_line(trained, tmp_path):
    run, _ = trained("CoOp")
    copy = shutil.copytree(run, tmp_path / "copy")
    record = copy / "classifier.json"
    record.write_text(record.read_text().replace('"blue"', '"blau"'))
    with pytest.raises(InputError, match=r"classifier\.json is damaged"):
        Classifier.from_run(copy)
