"""Few-shot picks: drawn as the original code draws them, or read from a file."""

import json
import lzma
import os
import pickle
import random

import layouts
import pytest
from conftest import ROOT, load_dataset

from dassl.utils import InputError, load_plugins

load_plugins("datasets")
load_plugins("trainers")
GOLDEN = ROOT / "tests" / "golden"


def read_golden(name):
    return json.loads(lzma.decompress((GOLDEN / f"{name}.json.xz").read_bytes()))


@pytest.fixture(scope="module")
def caltech(tmp_path_factory):
    """The published split of Caltech101, cut to 3,766 images. The image files are empty: picks don't read them."""
    root = tmp_path_factory.mktemp("caltech")
    split = read_golden("split_caltech101")
    for path in {path for entries in split.values() for path, *_ in entries}:
        file = root / "caltech-101/101_ObjectCategories" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / "caltech-101/split_zhou_Caltech101.json").write_text(json.dumps(split))
    return root


#: "Caltech101/<all, base or new>/shots<n>/seed<n>" -> what the original code picks on that split.
ORIGINAL_PICKS = read_golden("fewshot_caltech101")


@pytest.mark.parametrize("case", ORIGINAL_PICKS)
def test_picks_equal_those_of_the_original_code(case, caltech):
    name, part, shots, seed = case.split("/")
    words = ("DATASET.SUBSAMPLE_CLASSES", part, "DATASET.NUM_SHOTS", shots[5:], "SEED", seed[4:])
    random.seed(99)  # earlier draws of the global generator must not change the picks
    data = load_dataset(name, caltech, *words)
    for split, items in (("train", data.train_x), ("val", data.val)):
        ours = [[os.path.relpath(item.impath, caltech / "caltech-101"), item.label, item.classname] for item in items]
        assert ours == ORIGINAL_PICKS[case][split]
    assert len(data.test) == ORIGINAL_PICKS[case]["n_test"]
    assert data.classnames == ORIGINAL_PICKS[case]["classnames"]


def test_picks_are_read_from_a_runs_file(tmp_path):
    layouts.make_DescribableTextures(tmp_path)
    first = load_dataset("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1, "SEED", 5)
    file = tmp_path / "picks.json"
    entries = [
        ["/other/machine/" + "/".join(item.impath.split("/")[-2:]), item.label, item.classname]
        for item in first.train_x
    ]
    file.write_text(json.dumps({"train": entries, "val": []}))
    words = ("DATASET.NUM_SHOTS", 1, "SEED", 5, "DATASET.FEWSHOT_FILE", file)
    data = load_dataset("DescribableTextures", tmp_path, *words)
    assert [item.impath for item in data.train_x] == [item.impath for item in first.train_x]
    file.write_text(json.dumps({"train": entries[:1], "val": []}))
    with pytest.raises(InputError, match="FEWSHOT_FILE"):
        load_dataset("DescribableTextures", tmp_path, *words)


def test_picks_are_read_from_a_cache_of_the_original_code(tmp_path):
    layouts.make_DescribableTextures(tmp_path)
    first = load_dataset("DescribableTextures", tmp_path, "DATASET.NUM_SHOTS", 1)
    paths = [item.impath for item in first.train_x]
    for item in first.train_x:
        item._impath = item.impath.replace(str(tmp_path), "/other/machine")
    (tmp_path / "shot_1-seed_1.pkl").write_bytes(pickle.dumps({"train": first.train_x, "val": first.val}, -1))
    data = load_dataset("DescribableTextures", tmp_path, "DATASET.FEWSHOT_FILE", tmp_path / "shot_1-seed_1.pkl")
    assert [item.impath for item in data.train_x] == paths


@pytest.mark.parametrize("content", ["[]", "{}", '{"train": [1]}', "not json"])
def test_broken_picks_are_an_input_error(run, tmp_path, content):
    (tmp_path / "picks.json").write_text(content)
    (tmp_path / "picks.pkl").write_bytes(content.encode())
    for name in ("picks.json", "picks.pkl"):
        code, _, err = run("DATASET.FEWSHOT_FILE", tmp_path / name)
        assert code == 2
        assert name in err
