"""Every data set reads its official layout, with its quirks; few-shot picks; one's own data; errors."""

import json
import os
import random
import stat

import numpy as np
import pytest
from conftest import SHARED, make_image
from scipy.io import savemat

from dassl.config import get_cfg_default, merge_file, merge_words
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import InputError, load_plugins
from datasets.multitask import MultiTask

load_plugins("datasets")
needs_shared = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="../shared is not here")


def load(name, root, *words):
    cfg = get_cfg_default()
    merge_words(cfg, ["DATASET.NAME", name, "DATASET.ROOT", str(root), "SEED", "1", *map(str, words)])
    return build_dataset(cfg)


def images(folder, names):
    for number, name in enumerate(names):
        make_image(folder / name, (number % 255, 100, 50), number)


def folders(folder, names, count=4):
    """Class folders of `count` images, and a hidden file that must not count."""
    for name in names:
        images(folder / name, [f"{number}.jpg" for number in range(count)])
        (folder / name / ".hidden.jpg").touch()


# ---- one made tree for every data set: returns the expected class names, in order of labels ----


def make_Caltech101(root):
    ignored, renamed = ["Faces_easy", "BACKGROUND_Google"], ["Faces", "Leopards", "Motorbikes", "airplanes"]
    folders(root / "caltech-101/101_ObjectCategories", [*ignored, *renamed, "accordion"])
    return ["face", "leopard", "motorbike", "accordion", "airplane"]


def make_OxfordPets(root):
    folder = root / "oxford_pets"
    images(folder / "images", [f"{breed}_{i}.jpg" for breed in ("Abyssinian", "american_bulldog") for i in range(6)])
    lines = {
        "trainval.txt": [f"Abyssinian_{i} 1 1 1" for i in range(5)] + [f"american_bulldog_{i} 2 2 1" for i in range(5)],
        "test.txt": ["Abyssinian_5 1 1 1", "american_bulldog_5 2 2 1"],
    }
    (folder / "annotations").mkdir()
    for name, content in lines.items():
        (folder / "annotations" / name).write_text("\n".join(content))
    return ["abyssinian", "american_bulldog"]


def make_OxfordFlowers(root):
    folder = root / "oxford_flowers"
    images(folder / "jpg", [f"image_{number:05d}.jpg" for number in range(1, 13)])
    savemat(folder / "imagelabels.mat", {"labels": [[1] * 6 + [2] * 6]})
    (folder / "cat_to_name.json").write_text(json.dumps({"1": "pink primrose", "2": "hard-leaved pocket orchid"}))
    return ["pink primrose", "hard-leaved pocket orchid"]


def make_StanfordCars(root):
    folder = root / "stanford_cars"
    images(folder / "cars_train", [f"{number:05d}.jpg" for number in range(10)])
    images(folder / "cars_test", [f"{number:05d}.jpg" for number in range(4)])
    (folder / "devkit").mkdir()
    names = np.empty((1, 2), dtype=object)
    names[0] = ["Audi TTS Coupe 2012", "Acura Integra Type R 2001"]
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    kind = [("class", "O"), ("fname", "O")]
    for path, count in (("devkit/cars_train_annos.mat", 10), ("cars_test_annos_withlabels.mat", 4)):
        rows = np.array([(1 + number % 2, f"{number:05d}.jpg") for number in range(count)], dtype=kind)
        savemat(folder / path, {"annotations": rows[None]})
    return ["2012 Audi TTS Coupe", "2001 Acura Integra Type R"]


def make_Food101(root):
    folders(root / "food-101/images", ["apple_pie", "waffles"])
    return ["apple_pie", "waffles"]


def make_FGVCAircraft(root):
    folder = root / "fgvc_aircraft"
    images(folder / "images", [f"{number:07d}.jpg" for number in range(6)])
    (folder / "variants.txt").write_text("Spitfire\nDC-3\n")  # not sorted: the file's order counts
    for number, split in enumerate(("train", "val", "test")):
        lines = [f"{2 * number:07d} Spitfire", f"{2 * number + 1:07d} DC-3"]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    return ["Spitfire", "DC-3"]


def make_SUN397(root):
    folder = root / "sun397"
    scenes = {"/a/abbey": "abbey", "/a/apse/indoor": "indoor apse"}
    for scene in scenes:
        images(folder / f"SUN397{scene}", [f"sun_{number}.jpg" for number in range(6)])
    (folder / "ClassName.txt").write_text("\n".join(scenes))
    (folder / "Training_01.txt").write_text("\n".join(f"{scene}/sun_{n}.jpg" for scene in scenes for n in range(5)))
    (folder / "Testing_01.txt").write_text("\n".join(f"{scene}/sun_5.jpg" for scene in scenes))
    return list(scenes.values())


def make_DescribableTextures(root):
    folders(root / "dtd/images", ["banded", "blotchy"])
    return ["banded", "blotchy"]


def make_EuroSAT(root):
    folders(root / "eurosat/2750", ["SeaLake", "AnnualCrop"])
    return ["Annual Crop Land", "Sea or Lake"]


def make_UCF101(root):
    folder = root / "ucf101"
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "YoYo": "Yo_Yo"}
    for action, name in actions.items():
        images(folder / "UCF-101-midframes" / name, [f"v_{action}_g{number:02d}.jpg" for number in range(6)])
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 YoYo\n")
    (lists / "trainlist01.txt").write_text(
        "\n".join(f"{a}/v_{a}_g{n:02d}.avi {label}" for label, a in enumerate(actions, 1) for n in range(5))
    )
    (lists / "testlist01.txt").write_text("\n".join(f"{a}/v_{a}_g05.avi" for a in actions))
    return list(actions.values())


WNIDS = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark"}


def classnames(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("\n".join(f"{wnid} {name}" for wnid, name in WNIDS.items()))


def make_ImageNet(root):
    classnames(root / "imagenet")
    for split in ("train", "val"):
        folders(root / "imagenet/images" / split, reversed(list(WNIDS)))
    return list(WNIDS.values())


def make_ImageNetV2(root):
    classnames(root / "imagenetv2")
    folders(root / "imagenetv2/imagenetv2-matched-frequency-format-val", ["2", "0", "1"])
    return list(WNIDS.values())


def make_ImageNetSketch(root):
    classnames(root / "imagenet-sketch")
    folders(root / "imagenet-sketch/images", WNIDS)
    return list(WNIDS.values())


def make_ImageNetA(root):
    classnames(root / "imagenet-adversarial")
    folders(root / "imagenet-adversarial/imagenet-a", list(WNIDS)[1:])
    (root / "imagenet-adversarial/imagenet-a/README.txt").touch()
    return list(WNIDS.values())[1:]  # these names alone form the classifier


def make_ImageNetR(root):
    classnames(root / "imagenet-rendition")
    folders(root / "imagenet-rendition/imagenet-r", list(WNIDS)[:2])
    return list(WNIDS.values())[:2]


def make_class_folders(root, name, classes):
    kind = DATASET_REGISTRY.get(name)
    folders(root / kind.dataset_dir / kind.image_dir, classes)
    return classes


def make_FruitVegetable(root):
    return make_class_folders(root, "FruitVegetable", ["apple", "banana"])


def make_KaggleFlower(root):
    return make_class_folders(root, "KaggleFlower", ["daisy", "rose"])


def make_KaggleMushroom(root):
    return make_class_folders(root, "KaggleMushroom", ["Agaricus", "Amanita"])


def make_KaggleVegetable(root):
    return make_class_folders(root, "KaggleVegetable", ["Bean", "Carrot"])


def make_PlantSeedlingV1(root):
    return make_class_folders(root, "PlantSeedlingV1", ["Black-grass", "Charlock"])


def make_PlantVillage(root):
    make_class_folders(root, "PlantVillage", ["Apple___Apple_scab", "Corn___healthy"])
    return ["Apple Apple scab", "Corn healthy"]  # folder names mended


def make_Folder(root):
    folders(root / "mine", ["b", "a"])
    return ["a", "b"]


MAKERS = {name.removeprefix("make_"): maker for name, maker in globals().items() if name.startswith("make_")}
for helper in ("image", "class_folders"):
    MAKERS.pop(helper)
MULTI_TASK = [n for n in DATASET_REGISTRY.registered_names() if issubclass(DATASET_REGISTRY.get(n), MultiTask)]
TEST_ONLY = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")


@pytest.mark.parametrize("name", [n for n in DATASET_REGISTRY.registered_names() if n not in MULTI_TASK])
def test_reads_its_official_layout(name, tmp_path):
    assert name in MAKERS, f"tests/test_datasets.py needs a make_{name}, which lays out {name} as it is published"
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


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "Folder"])
def test_what_is_missing_is_told(name, tmp_path):
    with pytest.raises(InputError) as error:
        load(name, tmp_path)
    message = str(error.value)
    assert str(tmp_path / DATASET_REGISTRY.get(name).dataset_dir) in message
    assert "download.sh" in message or DATASET_REGISTRY.get(name).by_hand in message
    assert "must hold" in message


def test_imagenet_val_is_test_and_shots_are_of_train_alone(tmp_path):
    make_ImageNet(tmp_path)
    data = load("ImageNet", tmp_path, "DATASET.NUM_SHOTS", 1)
    assert len(data.train_x) == 3
    assert [i.impath for i in data.val] == [i.impath for i in data.test]
    assert len(data.test) == 12


def test_variants_ignore_shots_and_classes(tmp_path):
    make_ImageNetA(tmp_path)
    data = load("ImageNetA", tmp_path, "DATASET.NUM_SHOTS", 1, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert len(data.train_x) == len(data.test) == 8


def test_aircraft_has_no_split_file_and_flowers_ignores_setid(tmp_path):
    make_FGVCAircraft(tmp_path)
    make_OxfordFlowers(tmp_path)
    assert [len(x) for x in (load("FGVCAircraft", tmp_path).train_x, load("FGVCAircraft", tmp_path).val)] == [2, 2]
    flowers = load("OxfordFlowers", tmp_path)
    assert [len(x) for x in (flowers.train_x, flowers.val, flowers.test)] == [6, 2, 4]  # 50 / 20 / 30


def test_split_file_goes_before_the_raw_lists(tmp_path, capsys):
    make_DescribableTextures(tmp_path)
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
    make_DescribableTextures(tmp_path)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    listing = sorted(tmp_path.rglob("*"))
    load("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1)
    assert sorted(tmp_path.rglob("*")) == listing  # root may write anywhere: nothing new is the test
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_picks_from_a_file(tmp_path):
    make_DescribableTextures(tmp_path)
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

    make_DescribableTextures(tmp_path)
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
