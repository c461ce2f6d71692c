"""Every trainer: its runs classify images without their data, and its exports give the run's logits."""

import json

import numpy as np
import pytest
import torch
from conftest import relative
from tiny_methods import TRAINERS, each_trainer

import predict
from dassl.utils import InputError
from inference import export
from inference.models import load_run

CLASSES = ["blue", "green thing", "grey", "red_thing"]


@each_trainer
def test_a_run_classifies_images_from_any_folder(trainer, trained, tmp_path, monkeypatch, capsys):
    """The scores are those of the run's own test. The images lie in another place than in training."""
    run, images = trained(trainer)
    saved = np.load(run / "predictions.npz")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    paths = [str(images / path) for path in saved["impath"]]
    assert predict.main([str(run), *paths, "--format", "json", "--topk", "4", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["image"] for each in found] == paths
    scores = [{best["class"]: best["score"] for best in each["predictions"]} for each in found]
    ours = torch.tensor([[of_image[name] for name in CLASSES] for of_image in scores])
    assert ours.numpy() == pytest.approx(torch.from_numpy(saved["logits"]).softmax(-1).numpy(), abs=1e-4)


def test_a_linear_probe_refuses_other_classes(trained, capsys):
    run, images = trained("LinearProbe")
    assert predict.main([str(run), str(images), "--classes", "cat,dog"]) == 2
    assert "can't classify new classes" in capsys.readouterr().err


#: Trainers that the quick suite exports: prompts in both towers, no text tower, several tasks, refused.
QUICK = ("MaPLe", "LinearProbe", "MTCoOpHard", "CoCoOp")
needs_export = pytest.mark.skipif(not export.torch_is_new_enough(), reason="an export needs torch 2.6")


@needs_export
@pytest.mark.parametrize(
    "trainer", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in TRAINERS]
)
def test_an_exported_program_gives_the_run_s_logits(trainer, trained):
    loaded = load_run(trained(trainer)[0], precision="fp32")
    images = torch.randn(3, 3, 32, 32)
    if loaded.method.text_depends_on_image:
        with pytest.raises(InputError, match=rf"{trainer} can't be exported, because its text features"):
            export.refuse(loaded.method, loaded.cfg)
        return
    export.refuse(loaded.method, loaded.cfg)
    with torch.no_grad():
        logits = loaded.method(images)
        program = export.trace(loaded.method, images[:2])
        exported, features = program.module()(images)
    assert relative(exported, logits) < 1e-4
    assert features.shape == (3, 64)
    weights = sum(tensor.numel() for name, tensor in program.state_dict.items() if name.startswith("visual."))
    assert sum(tensor.numel() for tensor in program.state_dict.values()) - weights < 1_000_000  # without the text tower


@needs_export
@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@each_trainer
def test_a_whole_export_in_each_precision(trainer, precision, trained, tmp_path):
    """`export` itself compares the logits of both formats with the run's."""
    run, _ = trained(trainer)
    if TRAINERS[trainer].method.text_depends_on_image:
        with pytest.raises(InputError, match="can't be exported"):
            export.export(run, tmp_path / "to", precision=precision)
        assert not (tmp_path / "to").exists()
        return
    done = export.export(run, tmp_path / "to", precision=precision)
    assert set(done.differences) == {"model.pt2", "model.onnx"}
