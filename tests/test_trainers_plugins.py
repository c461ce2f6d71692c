"""A method is one file: the example of CONTRIBUTING and three toys train, save, resume, test and are rebuilt."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, node_of, relative, result_of
from tiny_methods import PLUGINS, register_plugins

from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_checkpoint, read_image
from trainers.base import load_method, total
from trainers.common.options import default_config, run_config
from trainers.common.original_nodes import ORIGINAL_NODES


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    register_plugins(monkeypatch)


def checkpoint_of(trainer, folder, epoch):
    (name,) = TRAINER_REGISTRY.get(trainer).checkpoints
    return load_checkpoint(folder / name / f"model.pth.tar-{epoch}")


each_plugin = pytest.mark.parametrize("trainer", PLUGINS)


@each_plugin
def test_trains_saves_tests_and_is_rebuilt_without_data(trainer, run, tmp_path, own_data):
    code, _, err = run("OPTIM.MAX_EPOCH", 2, "TEST.SAVE_PREDICTIONS", True, trainer=trainer)
    assert code == 0, err
    epoch = 2 if trainer != "FeatureCache" else 1
    checkpoint = checkpoint_of(trainer, tmp_path / "out", epoch)
    assert checkpoint["classnames"] == ["blue", "green thing", "grey", "red_thing"]
    assert checkpoint["template"] == "a photo of a {}."
    assert sum(tensor.numel() for tensor in checkpoint["state_dict"].values()) < 100_000  # no frozen weights

    hidden = tmp_path / "hidden"
    shutil.move(tmp_path / "out", hidden)  # load_method needs the run's folder alone
    saved = np.load(hidden / "predictions.npz")
    method = load_method(hidden)
    transform = build_transform(run_config(hidden), is_train=False)
    images = torch.stack([transform(read_image(own_data / path)) for path in saved["impath"]])
    with torch.no_grad():
        assert relative(method(images), torch.tensor(saved["logits"])) < 1e-5


@each_plugin
def test_a_resumed_run_ends_with_the_same_bits(trainer, run, tmp_path):
    words = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    assert run(*words, trainer=trainer, output=tmp_path / "whole")[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut/result.json").unlink()
    (name,) = TRAINER_REGISTRY.get(trainer).checkpoints
    last = 1 if trainer == "FeatureCache" else 3
    if last == 3:
        (tmp_path / "cut" / name / "model.pth.tar-3").unlink()
        (tmp_path / "cut" / name / "checkpoint").write_text("model.pth.tar-1\n")
    code, out, err = run(*words, trainer=trainer, output=tmp_path / "cut")
    assert code == 0, err
    assert "will resume training" in out
    states = [checkpoint_of(trainer, tmp_path / folder, last)["state_dict"] for folder in ("whole", "cut")]
    assert all(torch.equal(states[1][key], tensor) for key, tensor in states[0].items())
    assert result_of(tmp_path / "whole")["per_class"] == result_of(tmp_path / "cut")["per_class"]


@pytest.mark.parametrize("trainer", ["ShortPrompt", "TaughtPrompt", "TowerAdapter"])
def test_prompts_and_adapters_carry_over_to_new_classes(trainer, run, tmp_path):
    assert run("DATASET.SUBSAMPLE_CLASSES", "base", trainer=trainer)[0] == 0
    words = ("--eval-only", "--model-dir", tmp_path / "out", "DATASET.SUBSAMPLE_CLASSES", "new")
    code, _, err = run(*words, trainer=trainer, output=tmp_path / "new")
    assert code == 0, err
    assert set(result_of(tmp_path / "new")["per_class"]) == {"grey", "red_thing"}
    others = load_method(tmp_path / "out", ["cat", "dog", "owl"])
    assert others(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert others.has_new_classes
    assert not load_method(tmp_path / "out").has_new_classes


def test_every_loss_term_is_logged(run, tmp_path):
    code, out, err = run(trainer="TaughtPrompt")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert {"loss", "ce", "text", "image", "acc"} <= set(line)
        assert line["loss"] == pytest.approx(line["ce"] + 2.0 * line["text"])  # 2.0: the value for this data set
    assert " text " in out
    assert list((tmp_path / "out/tensorboard").iterdir())


def test_the_average_over_epochs_is_saved_and_restored(run, tmp_path):
    assert run("OPTIM.MAX_EPOCH", 2, "TRAIN.CHECKPOINT_FREQ", 1, trainer="TaughtPrompt")[0] == 0
    first, last = (checkpoint_of("TaughtPrompt", tmp_path / "out", epoch) for epoch in (1, 2))
    assert torch.equal(first["method"]["sum"], first["state_dict"]["ctx"])
    assert torch.allclose(last["state_dict"]["ctx"], last["method"]["sum"] / 2)


def test_a_search_on_validation_images_chooses_the_weight(run, tmp_path):
    assert run(trainer="FeatureCache")[0] == 0
    state = checkpoint_of("FeatureCache", tmp_path / "out", 1)["state_dict"]
    assert state["keys"].shape == (8, 64)  # 2 shots of 4 classes
    assert state["alpha"].item() in (0.0, 0.5, 1.0, 2.0, 5.0)
    assert not (tmp_path / "out/metrics.jsonl").read_text()  # no batch was trained on


def test_the_best_checkpoint_holds_the_chosen_weight(run, tmp_path):
    assert run("TEST.FINAL_MODEL", "best_val", trainer="FeatureCache")[0] == 0
    best = load_checkpoint(tmp_path / "out/cache/model-best.pth.tar")["state_dict"]
    assert torch.equal(best["alpha"], checkpoint_of("FeatureCache", tmp_path / "out", 1)["state_dict"]["alpha"])


def test_options_are_a_config_node(run, tmp_path):
    assert node_of("TowerAdapter") == "TOWERADAPTER"
    code, _, err = run("TRAINER.TOWERADAPTER.RANK", 3, "TRAINER.TOWERADAPTER.LAYERS", "(0,)", trainer="TowerAdapter")
    assert code == 0, err
    state = checkpoint_of("TowerAdapter", tmp_path / "out", 1)["state_dict"]
    assert state["text.0.down.weight"].shape == (3, 128)
    assert not any(name.startswith("text.1") for name in state)
    code, _, err = run("TRAINER.TOWERADAPTER.RANKS", 3, trainer="TowerAdapter", output=tmp_path / "other")
    assert (code, "Did you mean TRAINER.TOWERADAPTER.RANK?" in err) == (2, True)


def test_a_folder_without_a_method_is_one_clear_error(run, tmp_path):
    assert run(trainer="ZeroshotCLIP")[0] == 0
    with pytest.raises(InputError, match="has no checkpoint"):
        load_method(tmp_path / "out")


def test_contributing_shows_the_example_as_it_is():
    example = (ROOT / "tests/plugins/short_prompt.py").read_text().split('"""\n\n', 1)[1]
    assert example.strip() in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_weighted_sum_of_losses():
    one, two = torch.tensor(1.5), torch.tensor(2.0)
    assert total({"a": (1.0, one), "b": (0.5, two), "c": (0.0, two)}).item() == 2.5


def test_the_published_nodes_are_those_of_the_methods():
    """A user may replace our files, so the nodes also exist as a table. Both must agree."""
    cfg = default_config()
    for node, keys in ORIGINAL_NODES.items():
        assert dict(cfg.TRAINER[node]) == keys | {"PREC": "fp16"}
