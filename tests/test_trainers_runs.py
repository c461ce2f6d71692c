"""Runs of prompt trainers with unusual data, and the state of mixed precision on a resume."""

import shutil

import layouts
import torch
from conftest import result_of

from trainers.base import PromptTrainer


def test_the_loss_scale_of_amp_is_restored_on_a_resume(run, tmp_path, monkeypatch):
    """GradScaler works on a CPU too. The resumed run must start with the scale at which the first run ended."""
    build, scales = PromptTrainer.build_model, []

    def with_scaler(self):
        build(self)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1, enabled=True)

    def before_train(self, original=PromptTrainer.before_train):
        original(self)
        scales.append(self.scaler.get_scale())

    monkeypatch.setattr(PromptTrainer, "build_model", with_scaler)
    monkeypatch.setattr(PromptTrainer, "before_train", before_train)
    assert run("OPTIM.MAX_EPOCH", 1)[0] == 0
    (tmp_path / "out/result.json").unlink()
    assert run("OPTIM.MAX_EPOCH", 1)[0] == 0
    assert scales == [4.0, 16.0]  # each of the two batches doubles it


def test_best_val_tests_the_last_model_if_a_trainer_never_validates(run, tmp_path):
    code, _, err = run("TEST.FINAL_MODEL", "best_val", trainer="LinearProbe")
    assert code == 0, err
    assert result_of(tmp_path / "out")["epoch"] == 1


def test_class_names_may_have_braces(run, tmp_path, own_data):
    shutil.copytree(own_data, tmp_path / "braces")
    (tmp_path / "braces/blue").rename(tmp_path / "braces/{blue} %s")
    code, _, err = run("DATASET.PATH", tmp_path / "braces", trainer="ZeroshotCLIP")
    assert code == 0, err
    assert "{blue} %s" in result_of(tmp_path / "out")["per_class"]


def test_classes_with_the_same_prompt_are_reported(run, tmp_path, own_data):
    shutil.copytree(own_data, tmp_path / "twins")
    shutil.copytree(own_data / "blue", tmp_path / "twins/Blue")
    _, out, _ = run("DATASET.PATH", tmp_path / "twins", trainer="ZeroshotCLIP")
    assert "'Blue' and 'blue' have the same prompt" in out


def test_training_on_a_test_set_is_an_error(run, tmp_path):
    layouts.make_ImageNetA(tmp_path)
    overrides = ("DATASET.NAME", "ImageNetA", "DATASET.PATH", "", "DATASET.SUBSAMPLE_CLASSES", "base")
    code, _, err = run(*overrides)
    assert code == 2
    assert "is a test set: train on another" in err
    code, _, err = run(*overrides, trainer="ZeroshotCLIP")
    assert code == 0, err
    assert result_of(tmp_path / "out")["subsample_classes"] == "all"
