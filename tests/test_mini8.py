"""ViT-Mini/8, the CLIP in this repository: its weights, its words, and all trainers on emoji data sets."""

from pathlib import Path

import pytest
from conftest import ROOT, emoji_config_file, result_of

import train
from clip import mini
from clip.loading import load_clip
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from datasets import scenes
from datasets.emoji import EmojiScenes
from experiments.config import default_config_file
from tools.pretrain import pretrain
from trainers.common.prompts import tokenize_classes

load_plugins("datasets")
load_plugins("trainers")
EMOJI = [cls for cls in map(DATASET_REGISTRY.get, DATASET_REGISTRY.registered_names()) if issubclass(cls, EmojiScenes)]
CATEGORIES = [cls.__name__ for cls in EMOJI if cls.category]


def test_the_weights_are_small_and_the_towers_have_their_sizes():
    assert mini.FILE.stat().st_size < 8e6
    model = load_clip("ViT-Mini/8")
    assert model.token_embedding.weight.shape == (49408, 128)
    assert model.positional_embedding.shape == (77, 128)
    assert model.visual.input_resolution == 48
    assert model.sizes == pretrain.SIZES


def test_a_word_that_pretraining_never_saw_is_logged_once(capsys):
    model = load_clip("ViT-Mini/8")
    for _ in range(2):
        tokenize_classes(model, "a photo of a {}.", ["pizza", "quasar pizza"])
    assert capsys.readouterr().out.count("never trained on 'quasar'") == 1
    tokenize_classes(model, "a photo of a {}.", [entry["name"] for entry in scenes.read_drawings()["classes"]])
    assert "never" not in capsys.readouterr().out


def run_emoji(trainer: str, name: str, output: Path, opts: str) -> dict:
    """Run `train.main` on an emoji data set with the trainer's default config; returns result.json."""
    words = f"--trainer {trainer} --dataset-config-file {emoji_config_file(name)} --seed 1 --output-dir {output}"
    assert train.main([*words.split(), *opts.split(), "DATALOADER.NUM_WORKERS", "0"]) == 0
    return result_of(output)


@pytest.mark.parametrize("name", CATEGORIES)
def test_zero_shot_accuracy_on_new_classes_is_15_times_chance(name, tmp_path):
    result = run_emoji("ZeroshotCLIP", name, tmp_path, "DATASET.SUBSAMPLE_CLASSES new")
    assert result["accuracy"] > 15 * 100 / len(result["per_class"])


@pytest.mark.parametrize("trainer", sorted(TRAINER_REGISTRY.registered_names()))
def test_every_trainer_runs_with_its_own_config(trainer, tmp_path):
    opts = "OPTIM.MAX_EPOCH 1 OPTIM.WARMUP_EPOCH 0 DATASET.NUM_SHOTS 1 DATASET.SUBSAMPLE_CLASSES base"
    result = run_emoji(trainer, "EmojiActivities", tmp_path, opts)
    assert result["accuracy"] > 100 / 42  # above chance on 42 classes


def test_a_data_sets_backbone_chooses_the_trainers_config():
    cls = TRAINER_REGISTRY.get("MaPLe")
    emoji = emoji_config_file("EmojiFood")
    assert default_config_file(cls, dataset_file=emoji).endswith("MaPLe/vit_mini8.yaml")
    assert default_config_file(cls, "cross_dataset", emoji).endswith("MaPLe/vit_mini8_cross_datasets.yaml")
    language = default_config_file(TRAINER_REGISTRY.get("IVLP"), "", emoji, "some_language_only")
    assert language.endswith("IVLP/vit_mini8_language_only.yaml")
    caltech = str(ROOT / "configs" / "datasets" / "caltech101.yaml")
    assert default_config_file(cls, dataset_file=caltech).endswith("MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml")
