"""Checks before a test: the training has finished, and it used the same data."""

import pytest
import yaml
from conftest import ROOT

import train
from dassl.config import get_cfg_default, merge_file
from experiments.checks import check_trained
from experiments.config import last_epoch


def test_prompts_of_an_unfinished_training_are_refused(run, tmp_path):
    run("OPTIM.MAX_EPOCH", 2, output=tmp_path / "trained")
    done = tmp_path / "trained/result.json"
    done.unlink()
    last = tmp_path / "trained/MultiModalPromptLearner/model.pth.tar-2"
    last.rename(last.with_name("model.pth.tar-1"))
    cfg = get_cfg_default()
    merge_file(cfg, ROOT / "configs/datasets/folder.yaml")
    cfg.TEST.MODEL_DIR, cfg.OPTIM.MAX_EPOCH = str(tmp_path / "trained"), 2
    with pytest.raises(ValueError, match="isn't finished"):
        check_trained(cfg)
    assert last_epoch(str(tmp_path / "trained")) == 1


def test_prompts_of_other_data_are_not_tested_on_new_classes(run, tmp_path, own_data):
    assert run("DATASET.SUBSAMPLE_CLASSES", "base", output=tmp_path / "trained")[0] == 0
    assert yaml.safe_load((tmp_path / "trained/config.yaml").read_text())["DATASET"]["PATH"] == str(own_data)
    overrides = (
        "--trainer MaPLe --seed 1 --dataset-config-file configs/datasets/folder.yaml DATASET.SUBSAMPLE_CLASSES new"
    )
    overrides += f" DATASET.PATH {tmp_path} --model-dir {tmp_path}/trained"
    cfg = train.build_config(train.parse_arguments(overrides.split()))
    with pytest.raises(ValueError, match=r"DATASET\.PATH"):
        check_trained(cfg)


def test_only_a_trainer_that_loads_prompts_needs_their_folder(zero_shot_argv, tmp_path, capsys):
    words = [*zero_shot_argv, "--eval-only", "--model-dir", str(tmp_path / "nowhere")]
    assert train.main(words) == 0
    maple = [*words, "--trainer", "MaPLe", "--config-file", "", "--output-dir", str(tmp_path / "maple")]
    assert train.main(maple) == 2
    assert "MultiModalPromptLearner doesn't exist (--model-dir is" in capsys.readouterr().err
