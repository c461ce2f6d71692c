"""Errors in few-shot picks and in the lists of a user's own data."""

import json

import pytest


@pytest.mark.parametrize("content", ["[]", "{}", '{"train": [1]}', "not json"])
def test_broken_picks_are_an_input_error(run, tmp_path, content):
    (tmp_path / "picks.json").write_text(content)
    (tmp_path / "picks.pkl").write_bytes(content.encode())
    for name in ("picks.json", "picks.pkl"):
        code, _, err = run("DATASET.FEWSHOT_FILE", tmp_path / name)
        assert code == 2
        assert name in err


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
    assert "twice" in err


@pytest.mark.parametrize(
    ("test_row", "message"),
    [((7, "c"), r"labels [7] have no images for training"), ((1, "c"), "label 1 is called 'b' and 'c'")],
)
def test_a_split_file_that_contradicts_itself_is_an_error(run, tmp_path, own_data, test_row, message):
    path = [str(own_data / f"blue/{n}.png") for n in range(3)]
    split = {"train": [[path[0], 0, "a"], [path[1], 1, "b"]], "val": [], "test": [[path[2], *test_row]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    code, _, err = run("DATASET.PATH", tmp_path / "split.json")
    assert code == 2
    assert message in err
