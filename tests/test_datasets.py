"""Every data set reads its official layout, with its quirks; few-shot picks; one's own data; errors."""

import json
import os
import random
import stat

import layouts
import pytest
from conftest import SHARED
from layouts import folders

from dassl.config import get_cfg_default, merge_file, merge_words
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import InputError, load_plugins
from datasets.base import TestOnly
from datasets.emoji import EmojiScenes
from datasets.multitask import MultiTask

load_plugins("datasets")
needs_shared = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="../shared is not here")


def load(name, root, *words):
    cfg = get_cfg_default()
    merge_words(cfg, ["DATASET.NAME", name, "DATASET.ROOT", str(root), "SEED", "1", *map(str, words)])
    return build_dataset(cfg)


MAKERS = {name.removeprefix("make_"): maker for name, maker in vars(layouts).items() if name.startswith("make_")}
for helper in ("image", "class_folders"):
    MAKERS.pop(helper)
MULTI_TASK = [n for n in DATASET_REGISTRY.registered_names() if issubclass(DATASET_REGISTRY.get(n), MultiTask)]
TEST_ONLY = [n for n in DATASET_REGISTRY.registered_names() if issubclass(DATASET_REGISTRY.get(n), TestOnly)]
MADE = [n for n in DATASET_REGISTRY.registered_names() if issubclass(DATASET_REGISTRY.get(n), EmojiScenes)]


@pytest.mark.parametrize("name", [n for n in DATASET_REGISTRY.registered_names() if n not in MULTI_TASK])
def test_reads_its_official_layout(name, tmp_path):
    assert name in MAKERS, f"tests/layouts.py needs a make_{name}, which lays out {name} as it is published"
    expected = MAKERS[name](tmp_path)
    data = load(name, tmp_path, "DATASET.PATH", tmp_path / "mine" if name == "Folder" else "")
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
def test_base_and_new_classes(name, tmp_path):
    expected = MAKERS[name](tmp_path)
    half = -(-len(expected) // 2)
    for part, names in (("base", expected[:half]), ("new", expected[half:])):
        path = tmp_path / "mine" if name == "Folder" else ""
        data = load(name, tmp_path, "DATASET.SUBSAMPLE_CLASSES", part, "DATASET.PATH", path)
        assert data.classnames == names
        assert {item.label for item in data.test} == set(range(len(names)))  # relabelled from 0


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("Folder", *MADE)])
def test_what_is_missing_is_told(name, tmp_path):
    with pytest.raises(InputError) as error:
        load(name, tmp_path)
    message = str(error.value)
    assert str(tmp_path / DATASET_REGISTRY.get(name).dataset_dir) in message
    assert "download.sh" in message or DATASET_REGISTRY.get(name).by_hand in message
    assert "must hold" in message


def test_imagenet_val_is_test_and_shots_are_of_train_alone(tmp_path):
    layouts.make_ImageNet(tmp_path)
    data = load("ImageNet", tmp_path, "DATASET.NUM_SHOTS", 1)
    assert len(data.train_x) == 3
    assert [i.impath for i in data.val] == [i.impath for i in data.test]
    assert len(data.test) == 12


def test_variants_ignore_shots_and_classes(tmp_path):
    layouts.make_ImageNetA(tmp_path)
    data = load("ImageNetA", tmp_path, "DATASET.NUM_SHOTS", 1, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert len(data.train_x) == len(data.test) == 8


def test_aircraft_has_no_split_file_and_flowers_ignores_setid(tmp_path):
    layouts.make_FGVCAircraft(tmp_path)
    layouts.make_OxfordFlowers(tmp_path)
    assert [len(x) for x in (load("FGVCAircraft", tmp_path).train_x, load("FGVCAircraft", tmp_path).val)] == [2, 2]
    flowers = load("OxfordFlowers", tmp_path)
    assert [len(x) for x in (flowers.train_x, flowers.val, flowers.test)] == [6, 2, 4]  # 50 / 20 / 30


def test_split_file_goes_before_the_raw_lists(tmp_path, capsys):
    layouts.make_DescribableTextures(tmp_path)
    drawn = load("DescribableTextures", tmp_path)
    assert "drew a split by seed 1" in capsys.readouterr().out
    again = load("DescribableTextures", tmp_path)
    assert [i.impath for i in drawn.train_x] == [i.impath for i in again.train_x]
    split = {
        "train": [["banded/0.jpg", 0, "striped"], ["blotchy/0.jpg", 1, "blotchy"]],
        "val": [],
        "test": [["banded/1.jpg", 0, "striped"]],
    }
    (tmp_path / "dtd/split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    data = load("DescribableTextures", tmp_path)
    assert data.classnames == ["striped", "blotchy"]
    assert len(data.test) == 1
    split["test"] = [["banded/gone.jpg", 0, "striped"]]
    (tmp_path / "dtd/split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match=r"gone\.jpg: 1 of 3 images are not there"):
        load("DescribableTextures", tmp_path)


@needs_shared
def test_fewshot_picks_equal_the_originals(tmp_path):
    golden = json.loads((SHARED / "golden/fewshot_caltech101.json").read_text())
    root = SHARED / "data"
    before = {path: path.stat().st_mtime for path in (root / "caltech-101").iterdir()}
    for key, entry in golden.items():
        name, part, shots, seed = key.split("/")
        words = ("DATASET.SUBSAMPLE_CLASSES", part, "DATASET.NUM_SHOTS", shots[5:], "SEED", seed[4:])
        random.seed(99)  # what was drawn before must not matter
        data = load(name, root, *words)
        for split, items in (("train", data.train_x), ("val", data.val)):
            ours = [[os.path.relpath(i.impath, root / "caltech-101"), i.label, i.classname] for i in items]
            assert ours == entry[split], key
        assert len(data.test) == entry["n_test"]
        assert data.classnames == entry["classnames"]
    assert before == {path: path.stat().st_mtime for path in (root / "caltech-101").iterdir()}


def test_a_read_only_root_is_enough(tmp_path):
    layouts.make_DescribableTextures(tmp_path)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    listing = sorted(tmp_path.rglob("*"))
    load("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1)
    assert sorted(tmp_path.rglob("*")) == listing  # root may write anywhere: nothing new is the test
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_picks_from_a_file(tmp_path):
    layouts.make_DescribableTextures(tmp_path)
    first = load("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1, "SEED", 5)
    file = tmp_path / "picks.json"
    entries = [["/elsewhere/" + "/".join(i.impath.split("/")[-2:]), i.label, i.classname] for i in first.train_x]
    file.write_text(json.dumps({"train": entries, "val": []}))
    words = ("DATASET.NUM_SHOTS", 1, "SEED", 5, "DATASET.FEWSHOT_FILE", file)
    data = load("DescribableTextures", tmp_path, *words)
    assert [i.impath for i in data.train_x] == [i.impath for i in first.train_x]
    file.write_text(json.dumps({"train": entries[:1], "val": []}))
    with pytest.raises(InputError, match="FEWSHOT_FILE"):
        load("DescribableTextures", tmp_path, *words)


def test_picks_from_an_original_cache(tmp_path):
    import pickle

    layouts.make_DescribableTextures(tmp_path)
    first = load("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1)
    for item in first.train_x:
        item._impath = item.impath.replace(str(tmp_path), "/home/somebody/data")  # stale absolute paths
    (tmp_path / "shot_1-seed_1.pkl").write_bytes(pickle.dumps({"train": first.train_x, "val": first.val}, -1))
    data = load("DescribableTextures", tmp_path, "DATASET.FEWSHOT_FILE", tmp_path / "shot_1-seed_1.pkl")
    assert [i.impath.split("/")[-2:] for i in data.train_x] == [i.impath.split("/")[-2:] for i in first.train_x]


# ---- one's own data ----


def own(path, *words):
    return load("Folder", ".", "DATASET.PATH", path, *words)


def test_own_folders_with_splits(tmp_path):
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        folders(tmp_path / split, ["hat", "t-shirt"], count)
    data = own(tmp_path)
    assert [len(x) for x in (data.train_x, data.val, data.test)] == [6, 2, 4]
    assert data.classnames == ["hat", "t-shirt"]


def test_own_folders_are_split_by_the_seed(tmp_path):
    folders(tmp_path, ["a", "b"], 10)
    data, again, other = own(tmp_path), own(tmp_path), own(tmp_path, "SEED", 2)
    assert [len(x) for x in (data.train_x, data.val, data.test)] == [10, 4, 6]
    paths = [[i.impath for i in d.train_x] for d in (data, again, other)]
    assert paths[0] == paths[1] != paths[2]


def test_own_val_serves_as_test(tmp_path):
    for split in ("train", "val"):
        folders(tmp_path / split, ["a", "b"], 2)
    assert len(own(tmp_path).test) == 4


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_own_list(tmp_path, kind):
    folders(tmp_path, ["x", "y"], 3)
    rows = [
        {"path": f"{folder}/{n}.jpg", "class": name, "split": split}
        for folder, name in (("x", "zebra"), ("y", "ant"))
        for n, split in enumerate(("train", "val", "test"))
    ]
    file = tmp_path / f"list.{kind}"
    lines = ["path,class,split", *(",".join(row.values()) for row in rows)]
    file.write_text(json.dumps(rows) if kind == "json" else "\n".join(lines))
    data = own(file)
    assert data.classnames == ["ant", "zebra"]
    assert [len(x) for x in (data.train_x, data.val, data.test)] == [2, 2, 2]


def test_own_data_errors(tmp_path):
    with pytest.raises(InputError, match=r"no .*nowhere"):
        own(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no class folders"):
        own(tmp_path)
    folders(tmp_path, ["a", "b"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no images"):
        own(tmp_path)
    (tmp_path / "list.csv").write_text("path,class,split\na/0.jpg,a,train\nb/0.jpg,b,test\n")
    with pytest.raises(InputError, match="no training images for the class 'b'"):
        own(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("file,label\na/0.jpg,a\n")
    with pytest.raises(InputError, match="entry 1: needs path and class"):
        own(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("path,class\na/gone.jpg,a\n")
    with pytest.raises(InputError, match=r"no such image: .*gone\.jpg"):
        own(tmp_path / "list.csv")
    with pytest.raises(InputError, match=r"DATASET\.PATH"):
        load("Folder", ".")


@needs_shared
def test_published_split_files_have_the_sizes_that_downloads_are_held_to():
    for path in (SHARED / "data/splits").glob("*.json"):
        kind = DATASET_REGISTRY.get(path.stem.removeprefix("split_zhou_"))
        split = next(d for d in kind.downloads if d.target == kind.split_file)
        content = json.loads(path.read_text())
        assert tuple(len(content[part]) for part in ("train", "val", "test")) == split.entries


@pytest.mark.parametrize("path", sorted(os.listdir("configs/datasets")) if os.path.isdir("configs/datasets") else [])
def test_configs_name_registered_data_sets(path):
    cfg = get_cfg_default()
    merge_file(cfg, f"configs/datasets/{path}")
    assert cfg.DATASET.NAME in DATASET_REGISTRY.registered_names()
