"""A user's own data (the data set Folder): class folders, CSV and JSON lists, and their errors."""

import json

import pytest
from conftest import load_dataset
from layouts import folders

from dassl.config import get_cfg_default, merge_words
from dassl.data.datasets import build_dataset
from dassl.utils import InputError, load_plugins

load_plugins("datasets")
load_plugins("trainers")


def load(path, *words):
    return load_dataset("Folder", ".", "DATASET.PATH", path, *words)


def test_split_folders_are_used_as_they_are(tmp_path):
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        folders(tmp_path / split, ["hat", "t-shirt"], count)
    data = load(tmp_path)
    assert [len(items) for items in (data.train_x, data.val, data.test)] == [6, 2, 4]
    assert data.classnames == ["hat", "t-shirt"]


def test_the_seed_splits_class_folders(tmp_path):
    folders(tmp_path, ["a", "b"], 10)
    data, again, other = load(tmp_path), load(tmp_path), load(tmp_path, "SEED", 2)
    assert [len(items) for items in (data.train_x, data.val, data.test)] == [10, 4, 6]
    paths = [[item.impath for item in dataset.train_x] for dataset in (data, again, other)]
    assert paths[0] == paths[1] != paths[2]


def test_val_is_the_test_set_if_there_is_no_test_folder(tmp_path):
    for split in ("train", "val"):
        folders(tmp_path / split, ["a", "b"], 2)
    assert len(load(tmp_path).test) == 4


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_list_gives_paths_classes_and_splits(tmp_path, ending):
    folders(tmp_path, ["x", "y"], 3)
    rows = [
        {"path": f"{folder}/{n}.jpg", "class": name, "split": split}
        for folder, name in (("x", "zebra"), ("y", "ant"))
        for n, split in enumerate(("train", "val", "test"))
    ]
    file = tmp_path / f"list.{ending}"
    lines = ["path,class,split", *(",".join(row.values()) for row in rows)]
    file.write_text(json.dumps(rows) if ending == "json" else "\n".join(lines))
    data = load(file)
    assert data.classnames == ["ant", "zebra"]
    assert [len(items) for items in (data.train_x, data.val, data.test)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", r"nowhere .*doesn't exist"), ("", r"DATASET\.PATH"), ("empty", "no class folders")],
)
def test_an_error_names_a_path_without_data(tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        load(tmp_path / path if path else "")


def test_a_class_folder_without_images_is_an_error(tmp_path):
    folders(tmp_path, ["a", "b"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no images"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,class,split\na/0.jpg,a,train\nb/0.jpg,b,test\n", "no training images for the class 'b'"),
        ("photo,kind\na/0.jpg,a\n", "entry 1: path or class is missing"),
        ("path,class\na/gone.jpg,a\n", r"no such image: .*gone\.jpg"),
        ("path,class,split\na/0.jpg,a,train\na/1.jpg,a,\n", "some entries have a split, others have no split"),
        ("path,class,split\na/0.jpg,a,holdout\n", "entry 1: split must be train, val or test, not 'holdout'"),
    ],
)
def test_an_error_in_a_csv_names_the_entry(tmp_path, content, message):
    folders(tmp_path, ["a", "b"])
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "list.csv")


@pytest.mark.parametrize("rows", [[{"path": "a.png"}], [{"path": "a.png", "class": None}], ["x"]])
def test_an_error_in_a_list_names_the_entry(run, tmp_path, rows):
    (tmp_path / "list.json").write_text(json.dumps(rows))
    code, _, err = run("DATASET.PATH", tmp_path / "list.json")
    assert code == 2
    assert "entry 1" in err


def test_class_names_in_a_list_may_be_numbers(run, own_data):
    rows = [{"path": f"blue/{n}.png", "class": c} for c in (1, 2) for n in range(3 * c - 3, 3 * c)]
    file = own_data / "numbers.json"  # paths are relative to the file
    file.write_text(json.dumps(rows))
    code, _, err = run("DATASET.PATH", file, "DATASET.NUM_SHOTS", 1)
    file.unlink()
    assert code == 0, err


def test_an_image_listed_twice_is_an_error(run, tmp_path, own_data):
    twice = [{"path": str(own_data / "blue/0.png"), "class": "blue", "split": s} for s in ("train", "test")]
    (tmp_path / "list.json").write_text(json.dumps(twice))
    code, _, err = run("DATASET.PATH", tmp_path / "list.json")
    assert code == 2
    assert "is listed twice" in err


@pytest.mark.parametrize(
    ("test_row", "message"),
    [((7, "c"), r"labels [7] have no images for training"), ((1, "c"), "label 1 has two class names: 'b' and 'c'")],
)
def test_a_split_file_that_contradicts_itself_is_an_error(run, tmp_path, own_data, test_row, message):
    path = [str(own_data / f"blue/{n}.png") for n in range(3)]
    split = {"train": [[path[0], 0, "a"], [path[1], 1, "b"]], "val": [], "test": [[path[2], *test_row]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    code, _, err = run("DATASET.PATH", tmp_path / "split.json")
    assert code == 2
    assert message in err


def test_class_folders_may_have_subfolders(tmp_path):
    folders(tmp_path / "cat", ["indoors", "outdoors/garden"], 4)
    folders(tmp_path, ["dog"], 2)
    (tmp_path / "cat/.cache").mkdir()
    data = load(tmp_path)
    assert data.classnames == ["cat", "dog"]
    assert len(data.train_x) + len(data.val) + len(data.test) == 10


@pytest.mark.parametrize("path_column", ["filename", "file_name"])
def test_a_csv_of_excel_has_semicolons_and_a_byte_order_mark(tmp_path, path_column):
    folders(tmp_path, ["x", "y"], 4)
    rows = [f"{folder}/{n}.jpg;{name}" for folder, name in (("x", "zèbre"), ("y", "ant, red")) for n in range(4)]
    (tmp_path / "list.csv").write_text("\n".join([f"{path_column};Label", *rows]), encoding="utf-8-sig")
    data = load(tmp_path / "list.csv")
    assert data.classnames == ["ant, red", "zèbre"]
    assert len(data.train_x) == 4


@pytest.mark.parametrize("at_the_top", [True, False])
def test_an_imagefolder_of_hugging_face(tmp_path, at_the_top):
    for split in ("train", "test"):
        folders(tmp_path, [split], 4)
    rows = {split: [f"{n}.jpg,{'cat' if n % 2 else 'dog'}" for n in range(4)] for split in ("train", "test")}
    if at_the_top:
        lines = [f"{split}/{row}" for split, part in rows.items() for row in part]
        (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    else:
        for split, part in rows.items():
            (tmp_path / split / "metadata.csv").write_text("\n".join(["file_name,label", *part]))
    data = load(tmp_path)
    assert data.classnames == ["cat", "dog"]
    assert [len(items) for items in (data.train_x, data.val or [], data.test)] == [4, 0, 4]


def test_counts_imbalance_and_copies_are_logged(tmp_path, capsys):
    folders(tmp_path / "train", ["many"], 10)
    folders(tmp_path / "train", ["few"], 1)
    folders(tmp_path / "test", ["many"], 2)
    (tmp_path / "test/many/1.jpg").write_bytes(b"another image")
    load(tmp_path)
    out = capsys.readouterr().out
    assert "2 classes; images: 11 train, 0 val, 2 test" in out
    assert "Images per class for training: few 1, many 10" in out
    assert "unbalanced. many has 10 images for training, few has 1" in out
    assert "few has no test images" in out
    assert "1 test images have the same content as a training image" in out
    assert f"{tmp_path}: " in out


def test_a_label_is_for_own_data(run, tmp_path):
    cfg = get_cfg_default()
    merge_words(cfg, ["DATASET.NAME", "DescribableTextures", "DATASET.ROOT", str(tmp_path), "DATASET.LABEL", "mine"])
    with pytest.raises(InputError, match=r"DescribableTextures doesn't use DATASET\.LABEL"):
        build_dataset(cfg)
    assert run("DATASET.LABEL", "../mine")[0] == 2
