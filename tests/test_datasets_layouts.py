"""Every data set reads its official layout: splits, class names, base and new classes, errors about missing files."""

import json
import os
import stat

import layouts
import pytest
from conftest import ROOT, SHARED, load_dataset

from dassl.config import get_cfg_default, merge_file
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import InputError, load_plugins
from datasets.base import TestOnly
from datasets.emoji import EmojiScenes
from datasets.multitask import MultiTask

load_plugins("datasets")
NAMES = DATASET_REGISTRY.registered_names()


def subclasses(base: type) -> list[str]:
    """Names of the registered data sets that extend `base`."""
    return [name for name in NAMES if issubclass(DATASET_REGISTRY.get(name), base)]


#: Data set -> the function that lays out a tiny tree of it.
MAKERS = {name: getattr(layouts, f"make_{name}") for name in NAMES if hasattr(layouts, f"make_{name}")}
MULTI_TASK, TEST_ONLY, MADE_ON_FIRST_USE = subclasses(MultiTask), subclasses(TestOnly), subclasses(EmojiScenes)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MULTI_TASK])
def test_a_data_set_reads_its_official_layout(name, tmp_path):
    assert name in MAKERS, f"tests/layouts.py needs a make_{name}, which lays out {name} as it is published"
    expected = MAKERS[name](tmp_path)
    data = load_dataset(name, tmp_path, "DATASET.PATH", tmp_path / "mine" if name == "Folder" else "")
    assert data.classnames == expected
    assert data.num_classes == len(expected)
    assert {item.label for item in data.test} == set(range(len(expected)))
    for item in [*data.train_x, *(data.val or []), *data.test]:
        assert os.path.isfile(item.impath)
        assert item.classname == expected[item.label]
    train, test = ({item.impath for item in items} for items in (data.train_x, data.test))
    assert (train == test) if name in TEST_ONLY else not (train & test)
    assert data.template.count("{}") == 1


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in TEST_ONLY])
def test_base_and_new_classes_are_halves_relabelled_from_0(name, tmp_path):
    expected = MAKERS[name](tmp_path)
    half = -(-len(expected) // 2)
    for part, names in (("base", expected[:half]), ("new", expected[half:])):
        path = tmp_path / "mine" if name == "Folder" else ""
        data = load_dataset(name, tmp_path, "DATASET.SUBSAMPLE_CLASSES", part, "DATASET.PATH", path)
        assert data.classnames == names
        assert {item.label for item in data.test} == set(range(len(names)))


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("Folder", *MADE_ON_FIRST_USE)])
def test_an_error_names_the_missing_files_and_how_to_get_them(name, tmp_path):
    with pytest.raises(InputError) as error:
        load_dataset(name, tmp_path)
    cls, message = DATASET_REGISTRY.get(name), str(error.value)
    assert str(tmp_path / cls.dataset_dir) in message
    assert (cls.by_hand or "download.sh") in message
    assert "must contain" in message


def test_imagenet_val_equals_test_and_shots_reduce_train_alone(tmp_path):
    layouts.make_ImageNet(tmp_path)
    data = load_dataset("ImageNet", tmp_path, "DATASET.NUM_SHOTS", 1)
    assert len(data.train_x) == 3
    assert [item.impath for item in data.val] == [item.impath for item in data.test]
    assert len(data.test) == 12


def test_test_sets_ignore_shots_and_classes(tmp_path):
    layouts.make_ImageNetA(tmp_path)
    data = load_dataset("ImageNetA", tmp_path, "DATASET.NUM_SHOTS", 1, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert len(data.train_x) == len(data.test) == 8


def test_aircraft_uses_its_official_lists(tmp_path):
    layouts.make_FGVCAircraft(tmp_path)
    data = load_dataset("FGVCAircraft", tmp_path)
    assert [len(items) for items in (data.train_x, data.val, data.test)] == [2, 2, 2]


def test_flowers_are_split_by_shares(tmp_path):
    layouts.make_OxfordFlowers(tmp_path)
    data = load_dataset("OxfordFlowers", tmp_path)
    assert [len(items) for items in (data.train_x, data.val, data.test)] == [6, 2, 4]  # 50 / 20 / 30 %


def test_a_split_file_replaces_the_drawn_split(tmp_path, capsys):
    layouts.make_DescribableTextures(tmp_path)
    drawn = load_dataset("DescribableTextures", tmp_path)
    assert "a split was drawn with seed 1" in capsys.readouterr().out
    again = load_dataset("DescribableTextures", tmp_path)
    assert [item.impath for item in drawn.train_x] == [item.impath for item in again.train_x]
    split = {
        "train": [["banded/0.jpg", 0, "striped"], ["blotchy/0.jpg", 1, "blotchy"]],
        "val": [],
        "test": [["banded/1.jpg", 0, "striped"]],
    }
    (tmp_path / "dtd/split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    data = load_dataset("DescribableTextures", tmp_path)
    assert data.classnames == ["striped", "blotchy"]
    assert len(data.test) == 1
    split["test"] = [["banded/gone.jpg", 0, "striped"]]
    (tmp_path / "dtd/split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match=r"1 of 3 listed images are missing, .*gone\.jpg"):
        load_dataset("DescribableTextures", tmp_path)


def test_nothing_is_written_below_a_read_only_root(tmp_path):
    layouts.make_DescribableTextures(tmp_path)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    listing = sorted(tmp_path.rglob("*"))
    load_dataset("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1)
    assert sorted(tmp_path.rglob("*")) == listing  # also fails for the root user, who may write anywhere
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


@pytest.mark.skipif(not (SHARED / "data/splits").is_dir(), reason="needs the published split files in ../shared")
def test_published_split_files_have_the_expected_sizes():
    for path in (SHARED / "data/splits").glob("*.json"):
        cls = DATASET_REGISTRY.get(path.stem.removeprefix("split_zhou_"))
        split = next(item for item in cls.downloads if item.target == cls.split_file)
        content = json.loads(path.read_text())
        assert tuple(len(content[part]) for part in ("train", "val", "test")) == split.entries


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/datasets/*.yaml")), ids=lambda path: path.stem)
def test_a_config_file_names_a_registered_data_set(path):
    cfg = get_cfg_default()
    merge_file(cfg, path)
    assert cfg.DATASET.NAME in NAMES
