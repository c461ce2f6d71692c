"""export.py and push.py: the folder needs nothing of the project, and can be loaded from the hub."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from hub_stand_in import running_hub
from PIL import Image
from safetensors import safe_open

import export
import predict
import push
from inference import Classifier
from inference.export import torch_is_new_enough

pytestmark = pytest.mark.skipif(not torch_is_new_enough(), reason="an export needs torch 2.6")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """(folder of an exported CoOp, folder of its run, folder of images). With one layer, the export is quick."""
    folder = tmp_path_factory.mktemp("exported") / "classifier"
    run, images = trained("CoOp", layers=1)
    assert export.main([str(run), "--to", str(folder)]) == 0
    return folder, run, images


def test_the_folder_holds_what_a_stranger_needs(exported):
    folder, run, _ = exported
    assert {path.name for path in folder.iterdir()} == {
        "model.pt2", "model.onnx", "classifier.json", "prompts.safetensors", "classifier.py", "README.md",
    }  # fmt: skip
    record = json.loads((folder / "classifier.json").read_text())
    result = json.loads((run / "result.json").read_text())
    assert (record["accuracy"], record["n_test"]) == (result["accuracy"], result["n_total"])
    assert record["classes"] == ["blue", "green thing", "grey", "red_thing"]
    (checkpoint,) = run.glob("*/model.pth.tar-1")
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    with safe_open(folder / "prompts.safetensors", "pt") as file:
        for name, tensor in saved.items():
            assert torch.equal(file.get_tensor(f"prompt_learner.{name}"), tensor)
    assert len((folder / "classifier.py").read_text().splitlines()) < 80
    for path in folder.iterdir():  # no path of this machine leaves it
        assert str(run.parent).encode() not in path.read_bytes(), path
        assert str(ROOT).encode() not in path.read_bytes(), path


def test_an_exported_classifier_gives_the_run_s_logits(exported):
    folder, run, images = exported
    paths = sorted(images.glob("*/*.png"))[:5]
    ours, theirs = (Classifier.load(each, device="cpu").logits(paths, batch=3) for each in (folder, run))
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() < 1e-4
    assert Classifier.load(folder).features(paths).shape == (5, 64)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_the_folder_s_script_needs_few_packages_and_prepares_images_alike(exported, backend, tmp_path, monkeypatch):
    """torch and pillow are enough, and so are onnxruntime, pillow and numpy."""
    folder, run, _ = exported
    paths = [tmp_path / f"{width}x{height}.png" for width, height in ((40, 32), (33, 70), (32, 32), (20, 21))]
    for path in paths:
        width, height = map(int, path.stem.split("x"))
        pixels = np.random.RandomState(0).randint(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    expected = Classifier.load(run, device="cpu").predict(paths, topk=4)
    script = runpy.run_path(str(folder / "classifier.py"))
    blocked = ("numpy", "onnxruntime", "torchvision") if backend == "torch" else ("torch", "torchvision", "clip")
    for name in blocked:
        monkeypatch.setitem(sys.modules, name, None)
    classifier = script["Classifier"](backend if backend == "onnx" else "")
    for path, prediction in zip(paths, expected, strict=True):
        found = classifier.predict(path, topk=4)
        assert [name for name, _ in found] == prediction.classes
        assert [score for _, score in found] == pytest.approx(prediction.scores, abs=1e-4)


def test_the_script_s_command_line_knows_nothing_of_the_project(exported, tmp_path):
    folder, _, images = exported
    command = [sys.executable, "-I", str(folder / "classifier.py"), str(images / "grey/0.png")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("%") == 3


@pytest.mark.long
def test_new_classes_can_be_exported(exported, tmp_path):
    assert export.main([str(exported[1]), "--to", str(tmp_path / "to"), "--classes", "cat,dog"]) == 0
    record = json.loads((tmp_path / "to/classifier.json").read_text())
    assert (record["classes"], record["accuracy"]) == (["cat", "dog"], None)
    assert "not measured" in (tmp_path / "to/README.md").read_text()


def test_errors_are_one_line(exported, tmp_path, capsys):
    folder, run, images = exported
    assert export.main([str(run), "--to", str(images)]) == 2
    assert "isn't empty and isn't an earlier export" in capsys.readouterr().err
    assert export.main([str(tmp_path / "nowhere"), "--to", str(tmp_path / "to")]) == 2
    assert "isn't a folder" in capsys.readouterr().err
    assert predict.main([str(folder), str(images), "--classes", "cat,dog"]) == 2
    assert "whose classes are fixed" in capsys.readouterr().err
    assert push.main([str(run), "me/mine"]) == 2
    assert "isn't an exported classifier" in capsys.readouterr().err


def test_a_damaged_model_is_one_line(exported, tmp_path, capsys):
    folder, _, images = exported
    (tmp_path / "classifier.json").write_bytes((folder / "classifier.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])
    assert predict.main([str(tmp_path), str(images)]) == 2
    assert "model.onnx can't be loaded" in capsys.readouterr().err
    (tmp_path / "classifier.json").write_text('{"classes": []}')
    assert predict.main([str(tmp_path), str(images)]) == 2
    assert "classifier.json" in capsys.readouterr().err


def test_a_classifier_goes_to_the_hub_and_comes_back(exported, tmp_path, monkeypatch, capsys):
    folder, _, images = exported
    (folder / "private_notes.txt").write_text("not for the hub")
    monkeypatch.setenv("HF_TOKEN", "hf_token_for_tests")
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        try:
            assert push.main([str(folder), "me/mine"]) == 0, capsys.readouterr().err
        finally:
            (folder / "private_notes.txt").unlink()
        assert {file.name for file in folder.iterdir()} == set(hub.repositories["me/mine"])
        photo = str(images / "grey/0.png")
        capsys.readouterr()
        assert predict.main(["hf-hub:me/mine", photo, "--format", "csv"]) == 0
        from_hub = capsys.readouterr().out
        assert not [line for line in hub.requests if "model.pt2" in line and line.startswith("GET")]
        assert predict.main(["hf-hub:me/nothing", photo]) == 2
        assert "can't download hf-hub:me/nothing" in capsys.readouterr().err
    assert predict.main([str(folder), photo, "--format", "csv"]) == 0
    assert capsys.readouterr().out == from_hub
