"""The emoji benchmark: rendering of scenes, and data sets whose images are made on first use."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, load_dataset
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_plugins
from datasets import scenes
from datasets.emoji import EmojiScenes
from datasets.scenes import Scene
from tools.pretrain import pretrain

load_plugins("datasets")
EMOJI = [n for n in DATASET_REGISTRY.registered_names() if issubclass(DATASET_REGISTRY.get(n), EmojiScenes)]
#: SHA-256 of the images below, and sums over the pixels of some drawings.
SCENES = "32165054e824f3dcf29ac7d1609c98ba73f299ceb218805b4068f56447973dd0"
DRAWINGS = [1593, 1506, 2174, 4019, 3332, 3118, 4866, 5018, 1593, 1703, 2338]


def load(name):
    return load_dataset(name, "")


def square() -> np.ndarray:
    """An orange square on a transparent background, in the form that `rasterise` returns."""
    drawing = np.zeros((48, 48, 4), np.float32)
    drawing[12:36, 12:36] = (1, 0.5, 0, 1)
    return drawing


def test_scenes_are_the_same_on_every_machine():
    hardest = Scene(hidden=0.3, warp=0.05, recolour=1.0)
    images = [scenes.render(square(), hardest, np.random.default_rng(seed)) for seed in range(50)]
    assert hashlib.sha256(np.stack(images).tobytes()).hexdigest() == SCENES
    drawings = scenes.read_drawings()["classes"][::80]
    sums = [round(float(scenes.rasterise(entry["drawings"]["noto"]).sum())) for entry in drawings]
    assert sums == pytest.approx(DRAWINGS, rel=0.01)


def test_a_scene_without_strength_is_the_drawing_on_white():
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
    assert any((before != after).any() for before, after in zip(*images, strict=True))


def test_every_class_has_drawings_and_every_style_a_free_licence():
    content = scenes.read_drawings()
    for entry in content["classes"]:
        assert {"noto", "fluent", "fluent-line"} <= set(entry["drawings"]) <= set(content["styles"])
    assert {style["licence"] for style in content["styles"].values()} == {"MIT", "Apache-2.0", "CC-BY-4.0"}
    assert scenes.DRAWINGS.stat().st_size < 8e6
    assert len({entry["name"] for entry in content["classes"]}) == len(content["classes"])


def test_scenes_are_made_once_and_again_when_settings_change(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cls = DATASET_REGISTRY.get("EmojiActivities")
    monkeypatch.setattr(cls, "classes", lambda self: scenes.read_drawings()["classes"][-3:])
    item = load("EmojiActivities").test[0]
    with Image.open(item.impath) as image:
        assert image.size == (48, 48)
        first = np.asarray(image)
    times = os.stat(item.impath).st_mtime_ns
    assert os.stat(load("EmojiActivities").test[0].impath).st_mtime_ns == times
    monkeypatch.setattr(cls, "scene", Scene())
    with Image.open(load("EmojiActivities").test[0].impath) as image:
        assert (np.asarray(image) != first).any()
    files = {path.name for path in (tmp_path / "prompt-learning").iterdir()}
    assert len(files) == 4  # two versions, both of which may be in use, and their lock files


@pytest.mark.slow
def test_several_processes_make_the_scenes_once(tmp_path):
    code = """
from dassl.config import get_cfg_default, merge_words
from dassl.data.datasets import build_dataset
from dassl.utils import load_plugins
load_plugins("datasets")
cfg = get_cfg_default()
merge_words(cfg, ["DATASET.NAME", "EmojiActivities"])
build_dataset(cfg)
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    progress_bars = [err for _, err in outputs if "100%" in err]
    assert len(progress_bars) == 1  # the other process waited and used these images


def test_an_unwritable_cache_is_an_input_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to another folder"):
        load("EmojiFood")


@pytest.mark.parametrize("name", [name for name in EMOJI if not DATASET_REGISTRY.get(name).test_only])
def test_no_scene_is_in_two_splits(name):
    data = load(name)
    splits = [
        {hashlib.md5(Path(item.impath).read_bytes()).digest() for item in items}
        for items in (data.train_x, data.val, data.test)
    ]
    assert len(set.union(*splits)) == sum(map(len, splits))


def test_pretraining_used_the_styles_of_emoji_r_only():
    for name in EMOJI:
        styles = set(DATASET_REGISTRY.get(name).styles)
        assert (styles & set(pretrain.HELD_OUT)) == (set() if name == "EmojiR" else styles)
