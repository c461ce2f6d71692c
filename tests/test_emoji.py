"""The embedded benchmark: scenes that are the same everywhere, data sets made on first use, ViT-Mini/8, pretraining."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, config, result_of
from PIL import Image
from torch.utils.data import DataLoader

import train
from clip import mini
from clip.loading import load_clip
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_plugins
from datasets import scenes
from datasets.emoji import EmojiScenes
from datasets.scenes import Scene
from experiments.config import default_config_file
from tools import picture
from tools.pretrain import pretrain
from trainers.common.prompts import tokenize_classes

load_plugins("datasets")
load_plugins("trainers")
EMOJI = [n for n in DATASET_REGISTRY.registered_names() if issubclass(DATASET_REGISTRY.get(n), EmojiScenes)]
#: Of the images and drawings in the test of scenes below.
SCENES = "32165054e824f3dcf29ac7d1609c98ba73f299ceb218805b4068f56447973dd0"
DRAWINGS = [1593, 1506, 2174, 4019, 3332, 3118, 4866, 5018, 1593, 1703, 2338]
CATEGORIES = [name for name in EMOJI if DATASET_REGISTRY.get(name).category]


def square() -> np.ndarray:
    """An orange square on nothing, as `rasterise` gives drawings."""
    drawing = np.zeros((48, 48, 4), np.float32)
    drawing[12:36, 12:36] = (1, 0.5, 0, 1)
    return drawing


# ---- scenes ----


def test_scenes_are_the_same_on_every_machine():
    hardest = Scene(hidden=0.3, warp=0.05, recolour=1.0)
    images = [scenes.render(square(), hardest, np.random.default_rng(seed)) for seed in range(50)]
    assert hashlib.sha256(np.stack(images).tobytes()).hexdigest() == SCENES
    drawings = scenes.read_drawings()["classes"][::80]
    sums = [round(float(scenes.rasterise(entry["drawings"]["noto"]).sum())) for entry in drawings]
    assert sums == pytest.approx(DRAWINGS, rel=0.01)


def test_without_strength_a_scene_is_the_drawing_on_white():
    image = scenes.render(square(), Scene().softened(0), np.random.default_rng(0))
    assert (image[0, 0] == 255).all()
    assert (image[24, 24] == (255, 128, 0)).all()


@pytest.mark.parametrize("step", ["pose", "light", "clutter", "blur", "noise", "hidden", "warp", "recolour"])
def test_every_step_changes_the_scene(step):
    plain = Scene(0, 0, 0, 0, 0)
    changed = Scene(**{**vars(plain), step: 1})
    images = [
        [scenes.render(square(), scene, np.random.default_rng(seed)) for seed in range(4)] for scene in (plain, changed)
    ]
    assert any((one != other).any() for one, other in zip(*images, strict=True))


def test_every_class_has_its_drawings_and_every_style_its_licence():
    content = scenes.read_drawings()
    for entry in content["classes"]:
        assert {"noto", "fluent", "fluent-line"} <= set(entry["drawings"]) <= set(content["styles"])
    assert {style["licence"] for style in content["styles"].values()} == {"MIT", "Apache-2.0", "CC-BY-4.0"}
    assert scenes.DRAWINGS.stat().st_size < 8e6
    assert len({entry["name"] for entry in content["classes"]}) == len(content["classes"])


# ---- data sets ----


def load(name, *words):
    return build_dataset(config("DATASET.NAME", name, "SEED", "1", *words))


def test_scenes_are_made_once_and_anew_when_they_change(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kind = DATASET_REGISTRY.get("EmojiActivities")
    monkeypatch.setattr(kind, "classes", lambda self: scenes.read_drawings()["classes"][-3:])
    item = load("EmojiActivities").test[0]
    with Image.open(item.impath) as image:
        assert image.size == (48, 48)
        first = np.asarray(image)
    times = os.stat(item.impath).st_mtime_ns
    assert os.stat(load("EmojiActivities").test[0].impath).st_mtime_ns == times
    monkeypatch.setattr(kind, "scene", Scene())
    with Image.open(load("EmojiActivities").test[0].impath) as image:
        assert (np.asarray(image) != first).any()
    left = {path.name for path in (tmp_path / "prompt-learning").iterdir()}
    assert len(left) == 4  # two versions, which may be in use at once, and their locks


def test_several_processes_make_the_scenes_once(tmp_path):
    code = """
from conftest import config
from dassl.data.datasets import build_dataset
from dassl.utils import load_plugins
load_plugins("datasets")
build_dataset(config("DATASET.NAME", "EmojiActivities"))
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    made = [err for _, err in ends if "100%" in err]
    assert len(made) == 1  # the other waited, and found them


def test_a_cache_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CACHE_HOME names another folder"):
        load("EmojiFood")


@pytest.mark.parametrize("name", EMOJI)
def test_no_scene_is_in_two_splits(name):
    data = load(name)
    if data.test_only:
        return
    scenes_by_split = [
        {hashlib.md5(open(item.impath, "rb").read()).digest() for item in items}
        for items in (data.train_x, data.val, data.test)
    ]
    assert len(set.union(*scenes_by_split)) == sum(map(len, scenes_by_split))


def test_the_held_out_styles_are_not_those_of_pretraining():
    for name in EMOJI:
        styles = set(DATASET_REGISTRY.get(name).styles)
        assert styles <= set(pretrain.HELD_OUT) or (name == "EmojiR" and not styles & set(pretrain.HELD_OUT))


# ---- the small CLIP ----


def test_the_weights_are_small_and_the_model_is_like_every_other():
    assert mini.FILE.stat().st_size < 8e6
    model = load_clip("ViT-Mini/8")
    assert model.token_embedding.weight.shape == (49408, 128)
    assert model.positional_embedding.shape == (77, 128)
    assert model.visual.input_resolution == 48
    assert model.sizes == pretrain.SIZES


def test_a_word_that_pretraining_never_saw_is_told_once(capsys):
    model = load_clip("ViT-Mini/8")
    for _ in range(2):
        tokenize_classes(model, "a photo of a {}.", ["pizza", "quasar pizza"])
    assert capsys.readouterr().out.count("never trained on 'quasar'") == 1
    tokenize_classes(model, "a photo of a {}.", [entry["name"] for entry in scenes.read_drawings()["classes"]])
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("name", CATEGORIES)
def test_zero_shot_is_far_over_chance_on_new_classes(name, tmp_path):
    words = f"--trainer ZeroshotCLIP --dataset-config-file {yaml_of(name)} --seed 1 --output-dir {tmp_path}"
    assert train.main([*words.split(), "DATASET.SUBSAMPLE_CLASSES", "new", "DATALOADER.NUM_WORKERS", "0"]) == 0
    result = result_of(tmp_path)
    assert result["accuracy"] > 15 * 100 / len(result["per_class"])


def yaml_of(name: str) -> str:
    return str(ROOT / "configs" / "datasets" / f"emoji_{name.removeprefix('Emoji').lower()}.yaml")


@pytest.mark.parametrize("trainer", sorted(TRAINER_REGISTRY.registered_names()))
def test_every_trainer_runs_on_it_with_its_own_config(trainer, tmp_path, capsys):
    words = f"--trainer {trainer} --dataset-config-file {yaml_of('EmojiActivities')} --seed 1 --output-dir {tmp_path}"
    opts = "OPTIM.MAX_EPOCH 1 OPTIM.WARMUP_EPOCH 0 DATASET.NUM_SHOTS 1 DATASET.SUBSAMPLE_CLASSES base"
    assert train.main([*words.split(), *opts.split(), "DATALOADER.NUM_WORKERS", "0"]) == 0, capsys.readouterr().err
    assert result_of(tmp_path)["accuracy"] > 100 / 42


def test_a_data_sets_backbone_chooses_the_trainers_config():
    kind = TRAINER_REGISTRY.get("MaPLe")
    emoji = yaml_of("EmojiFood")
    assert default_config_file(kind, dataset_file=emoji).endswith("MaPLe/vit_mini8.yaml")
    assert default_config_file(kind, True, emoji).endswith("MaPLe/vit_mini8_cross_datasets.yaml")
    language = default_config_file(TRAINER_REGISTRY.get("IVLP"), False, emoji, "some_language_only")
    assert language.endswith("IVLP/vit_mini8_language_only.yaml")
    caltech = str(ROOT / "configs" / "datasets" / "caltech101.yaml")
    assert default_config_file(kind, dataset_file=caltech).endswith("MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml")


def test_the_picture_shows_what_the_methods_say(tmp_path, capsys):
    for part in ("base", "new"):
        words = f"--trainer ZeroshotCLIP --dataset-config-file {yaml_of('EmojiFood')} --seed 1"
        opts = f"--output-dir {tmp_path}/{part} DATASET.SUBSAMPLE_CLASSES {part} TEST.SAVE_PREDICTIONS True"
        assert train.main([*words.split(), *opts.split(), "DATALOADER.NUM_WORKERS", "0"]) == 0
    assert picture.main([str(tmp_path), str(tmp_path / "picture.png")]) == 0
    with Image.open(tmp_path / "picture.png") as image:
        assert np.asarray(image.convert("L")).std() > 10
    assert picture.main([str(tmp_path / "nothing"), "x.png"]) == 2
    assert "SAVE_PREDICTIONS" in capsys.readouterr().err


# ---- pretraining ----


@pytest.fixture
def started() -> tuple[pretrain.Pretraining, pretrain.Captions, pretrain.Batches]:
    """A model with random weights, captions and batches of few classes."""
    classes = scenes.read_drawings()["classes"][:60]
    captions = pretrain.Captions(classes)
    torch.manual_seed(0)
    model = pretrain.Pretraining(len(classes), len(captions.rows))
    drawings = [[scenes.rasterise(entry["drawings"]["twemoji"])] for entry in classes]
    return model, captions, pretrain.Batches(drawings, 2)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
def test_pretraining_is_deterministic_and_learns(started):
    model, captions, batches = started
    start = {name: value.clone() for name, value in model.state_dict().items()}
    ends = []
    for _ in range(2):
        model.load_state_dict(start)
        torch.manual_seed(1)
        pretrain.train(model, DataLoader(batches, batch_size=None), captions, 2, lambda clip: None, looks=1)
        ends.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in start)
    assert any((ends[0][name] != start[name]).any() for name in start)


def test_norms_are_folded_in_exactly(started):
    model, captions, batches = started
    loader = DataLoader(batches, batch_size=None)
    statistics = pretrain.output_statistics(model.clip, loader, captions)
    clip = pretrain.folded(model.clip, statistics)
    labels, images = batches[0]
    pairs = [
        (model.clip.encode_image, clip.encode_image, pretrain.to_input(torch.from_numpy(images))),
        (model.clip.encode_text, clip.encode_text, captions.draw(torch.from_numpy(labels), np.random.default_rng(0))),
    ]
    for (raw, ours, inputs), (mean, variance) in zip(pairs, statistics, strict=True):
        with torch.no_grad():
            expected = F.normalize((raw(inputs).double() - mean) / (variance + 1e-5).sqrt(), dim=-1)
            assert (F.normalize(ours(inputs).double(), dim=-1) - expected).abs().max() < 1e-4


def test_weights_are_the_same_after_saving(started, tmp_path):
    model, captions, _ = started
    mini.save(model.clip.state_dict(), captions.rows, tmp_path / "weights.safetensors")
    state, known = mini.load(path=tmp_path / "weights.safetensors")
    assert known.nonzero().flatten().tolist() == captions.rows.tolist()
    assert state["token_embedding.weight"].shape == (49408, 128)
    for name, value in model.clip.state_dict().items():
        loaded = state[name][known] if name == "token_embedding.weight" else state[name]
        assert torch.equal(loaded.half(), value.half())


def test_packages_read_icons_and_aliases(tmp_path):
    import io
    import tarfile

    from packages import Icons

    icons = {
        "icons": {"red-apple": {"body": "<path fill='currentColor'/>"}, "bigben": {"body": "b", "width": 4}},
        "aliases": {"apple": {"parent": "red-apple"}, "elppa": {"parent": "red-apple", "hFlip": True}},
        "height": 24,
    }
    with tarfile.open(tmp_path / "iconify-json-x-1.tgz", "w:gz") as tar:
        for name, content in {"icons": icons, "metadata": {"categories": {"Food": ["red-apple"]}}}.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = Icons(tmp_path / "iconify-json-x-1.tgz")
    assert "fill='#000'" in found.svg("apple")
    assert 'viewBox="0 0 4 24"' in found.svg("big-ben")  # other sets write names without hyphens
    assert found.svg("elppa") is None  # mirrored: another drawing
    assert found.aliases("red-apple") == ["apple"]
    assert found.categories == {"Food": ["red-apple"]}
