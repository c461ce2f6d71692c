"""Generated lists of images, split files and few-shot files: each is used as it says, or refused in one line."""

import json
import os
import shutil

import fuzz
import pytest
from conftest import load_dataset, make_image
from fuzz_inputs import list_files

import train
from dassl.utils import InputError, load_plugins

load_plugins("datasets")
load_plugins("trainers")


@pytest.fixture
def argv(own_data, tiny_path, tmp_path):
    """argv(*words) -> arguments of a zero-shot test of a copy of `own_data` with the tiny CLIP."""
    shutil.copytree(own_data, tmp_path / "data")
    words = [
        "--trainer", "ZeroshotCLIP", "--seed", "1", "--root", str(tmp_path),
        "--dataset-config-file", "configs/datasets/folder.yaml", "MODEL.BACKBONE.PATH", str(tiny_path),
        "INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0", "DATASET.PATH", str(tmp_path / "data"),
    ]  # fmt: skip
    return lambda *more: [*words, *map(str, more)]


def test_lists(argv, tmp_path):
    paths = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").glob("*/*.png"))
    number = 0

    def attempt(case):
        nonlocal number
        number += 1
        file = tmp_path / "data" / case.name
        file.write_bytes(case.content)
        output = tmp_path / "out" / str(number)
        return fuzz.problem(train.main, argv(case.key, file, "--output-dir", output), case.ending, str(output))

    fuzz.check(list_files(paths), 25, 200, attempt)
    assert not (tmp_path / "marker").exists()


def load(path, *words):
    return load_dataset("Folder", ".", "DATASET.PATH", path, *words)


@pytest.fixture
def sites(tmp_path):
    """Images whose last two path parts are equal: <site>/cat/<number>.png and <site>/dog/<number>.png, with a list."""
    rows = []
    for site in ("siteA", "siteB"):
        for name in ("cat", "dog"):
            for number in range(3):
                make_image(tmp_path / site / name / f"{number}.png", (9, 9, 9), number)
                split = ("train", "train", "test")[number]
                rows.append({"path": f"{site}/{name}/{number}.png", "class": name, "split": split})
    (tmp_path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (["siteB/cat/1.png", "siteA/dog/0.png"], ["siteB/cat/1.png", "siteA/dog/0.png"]),
        (["/other/siteB/cat/1.png", "/x/siteA/dog/0.png"], ["siteB/cat/1.png", "siteA/dog/0.png"]),
        (["cat/1.png", "siteA/dog/0.png"], r"lists cat/1\.png, which could be .*siteA/cat/1\.png and .*siteB"),
        (["/other/cat/1.png", "siteA/dog/0.png"], r"lists /other/cat/1\.png, which could be"),
        (["siteD/cat/1.png", "siteA/dog/0.png"], "lists 1 train images that aren't in the data set"),
    ],
)
def test_a_few_shot_file_names_images_by_their_whole_path(sites, listed, found):
    (sites / "picks.json").write_text(json.dumps({"train": [[path, 0, "x"] for path in listed]}), encoding="utf-8")
    words = ("DATASET.FEWSHOT_FILE", sites / "picks.json")
    if isinstance(found, list):
        data = load(sites / "list.json", *words)
        assert [item.impath for item in data.train_x] == [str(sites / path) for path in found]
    else:
        with pytest.raises(InputError, match=found):
            load(sites / "list.json", *words)


def test_negative_and_huge_labels_are_refused(sites):
    for label, message in ((-1, "train"), (10**9, "train")):
        rows = [["siteA/cat/0.png", label, "cat"], ["siteA/dog/0.png", 1, "dog"]]
        (sites / "split.json").write_text(json.dumps({"train": rows, "val": [], "test": rows}), encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load(sites / "split.json")


def test_a_folder_whose_name_is_not_utf8_is_refused(sites, own_data):
    shutil.copytree(own_data / "blue", sites / "siteA" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(InputError, match="isn't UTF-8"):
        load(sites / "siteA")


def test_a_mistyped_path_of_a_task_is_refused(argv, tmp_path, capsys):
    tasks = json.dumps([["Folder", "a", str(tmp_path / "data")], ["Folder", "b", str(tmp_path / "dta")]])
    words = ("--trainer", "SoftCPT", "DATASET.NAME", "MultiTask", "DATASET.PATH", "", "DATASET.TASKS", tasks)
    assert train.main(argv(*words, "--output-dir", tmp_path / "out", "TEST.EVALUATOR", "ClassificationMT")) == 2
    assert "the path of the task Folder in DATASET.TASKS is" in capsys.readouterr().err
