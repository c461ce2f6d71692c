"""Finished runs: the stored hashes tell an unchanged run, and every change leads to the full check."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, result_of

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import cache_folder
from experiments import classes, finished
from experiments.arguments import parse_arguments, run_of
from experiments.finished import FILE, is_unchanged


def unchanged(argv):
    return is_unchanged(run_of(parse_arguments(argv)))


@pytest.fixture
def argv(zero_shot_argv, tmp_path, monkeypatch):
    """Arguments of a finished run. Its plugins are read from a copy of their folders, project/."""
    project = tmp_path / "project"
    for name in ("trainers", "datasets"):
        shutil.copytree(ROOT / name, project / name)
    monkeypatch.setattr(classes.Plugins, "folder", property(lambda plugins: project / plugins.package))
    assert train.main(zero_shot_argv) == 0
    return zero_shot_argv


def test_an_unchanged_run_is_recognised(argv):
    assert unchanged(argv)
    assert unchanged([*argv, "--debug"])


@pytest.mark.parametrize("override", ["DATALOADER.NUM_WORKERS 1", "OPTIM.LR 0.5", "--seed 2", "TRAINER.CONFIG x"])
def test_another_argument_leads_to_the_full_check(override, argv):
    assert not unchanged([*argv, *override.split()])


def test_the_full_check_decides_after_a_change(argv, capsys):
    """A key that can't change the result: finished. Another key: refused. Nothing but the hashes changes."""
    folder = Path(argv[argv.index("--output-dir") + 1])
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != FILE}
    assert train.main([*argv, "DATALOADER.NUM_WORKERS", "1"]) == 0
    assert "Finished already, nothing to do" in capsys.readouterr().out
    assert train.main([*argv, "OPTIM.LR", "0.5"]) == 2
    assert "OPTIM.LR" in capsys.readouterr().err
    assert unchanged([*argv, "DATALOADER.NUM_WORKERS", "1"])
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != FILE}


@pytest.mark.parametrize("stored", [True, False])
def test_a_finished_run_may_be_in_a_read_only_folder(stored, argv, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(finished, "write_json", refuse)
    if not stored:
        (tmp_path / "out" / FILE).unlink()
    assert train.main([*argv, "DATALOADER.NUM_WORKERS", "1"]) == 0
    assert "Finished already, nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["OPTIM.LR", "OPTIM.LR wrong OPTIM.LR 0.0003"])
def test_wrong_words_are_refused_although_the_run_has_finished(words, argv, capsys):
    """A key without a value and an earlier value of a repeated key count, though they don't change the config."""
    default = [*argv, "OPTIM.LR", "0.0003"]
    assert train.main(default) == 0
    assert unchanged(default)
    for earlier in (argv, default):
        assert not unchanged([*earlier, *words.split()])
        assert train.main([*earlier, *words.split()]) == 2
    assert "OPTIM.LR" in capsys.readouterr().err


def test_a_changed_config_file_leads_to_the_full_check(argv, tmp_path):
    with (tmp_path / "zero_shot.yaml").open("a") as file:
        file.write("# another line\n")
    assert not unchanged(argv)


@pytest.mark.parametrize(
    "name",
    ["trainers/zsclip.py", "trainers/coop.py", "trainers/common/options.py", "datasets/folder.py", "datasets/x.py"],
)
def test_a_changed_or_new_plugin_leads_to_the_full_check(name, argv, tmp_path):
    """Any plugin, and any module that it imports, can change the config."""
    with (tmp_path / "project" / name).open("a") as file:
        file.write("# another line\n")
    assert not unchanged(argv)


def test_a_lock_file_of_an_editor_does_not_count(argv, tmp_path):
    (tmp_path / "project/trainers/.#coop.py").symlink_to("user@host.1234")
    assert unchanged(argv)


def test_the_full_check_updates_the_hashes_of_sources(argv, tmp_path):
    with (tmp_path / "project/trainers/zsclip.py").open("a") as file:
        file.write("# another line\n")
    before = json.loads((tmp_path / "out" / FILE).read_text())
    assert train.main(argv) == 0
    assert unchanged(argv)
    after = json.loads((tmp_path / "out" / FILE).read_text())
    assert [name for name in before if before[name] != after[name]] == ["sources"]


def test_a_touched_image_changes_nothing(argv, tmp_path, capsys):
    os.utime(tmp_path / "data/blue/0.png", ns=(1, 1))
    assert not unchanged(argv)
    assert train.main(argv) == 0  # the full check reads the image
    assert "Finished already, nothing to do" in capsys.readouterr().out
    assert unchanged(argv)


@pytest.mark.parametrize("change", ["content", "new image", "new class", "removed image"])
def test_a_finished_run_notices_changed_data(change, argv, tmp_path, capsys):
    image = tmp_path / "data/blue/0.png"
    if change == "content":
        shutil.copy(next((tmp_path / "data").glob("[!b]*/0.png")), image)
    elif change == "new image":
        shutil.copy(image, tmp_path / "data/blue/new.png")
    elif change == "new class":
        shutil.copytree(tmp_path / "data/blue", tmp_path / "data/violet")
    else:
        image.unlink()
    result = (tmp_path / "out/result.json").read_bytes()
    assert not unchanged(argv)
    assert train.main(argv) == 2
    assert "is the folder of a run with other files" in capsys.readouterr().err
    assert (tmp_path / "out/result.json").read_bytes() == result


def test_a_finished_run_needs_neither_data_nor_weights(argv, tmp_path, capsys):
    shutil.rmtree(tmp_path / "data")
    weights = argv.index("MODEL.BACKBONE.PATH") + 1
    assert train.main(argv) == 0
    assert "Finished already, nothing to do" in capsys.readouterr().out
    other = [*argv[:weights], "/nowhere/x.pt", *argv[weights + 1 :], "--output-dir", str(tmp_path / "other")]
    assert train.main(other) == 2
    assert "which doesn't exist" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["result.json", "inputs.json", "config.yaml"])
def test_a_damaged_file_leads_to_the_full_check(name, argv, tmp_path):
    (tmp_path / "out" / name).write_text("{")
    assert not unchanged(argv)


def test_an_older_run_gets_its_hashes(argv, tmp_path):
    """A run without hashes is recognised by the full check, which then stores them."""
    before = result_of(tmp_path / "out")
    (tmp_path / "out" / FILE).unlink()
    assert not unchanged(argv)
    assert train.main(argv) == 0
    assert unchanged(argv)
    assert result_of(tmp_path / "out") == before


def test_a_lost_list_of_data_files_leads_to_the_full_check(argv, tmp_path):
    digest = json.loads((tmp_path / "out" / FILE).read_text())["data_files"]
    (cache_folder() / "data" / digest).unlink()
    assert not unchanged(argv)
    assert train.main(argv) == 0  # the data set is built once to store the list again
    assert unchanged(argv)


def test_a_lost_list_without_data_leaves_the_run_finished(argv, tmp_path, capsys):
    shutil.rmtree(cache_folder() / "data")
    shutil.rmtree(tmp_path / "data")
    assert train.main(argv) == 0
    assert "Finished already, nothing to do" in capsys.readouterr().out
    assert not unchanged(argv)


def test_a_test_of_other_prompts_leads_to_the_full_check(run, tmp_path):
    """The tested folder's config and result count."""
    assert run(output=tmp_path / "trained")[0] == 0
    options = ("--eval-only", "--model-dir", tmp_path / "trained")
    assert run(*options, output=tmp_path / "tested")[0] == 0
    stored = json.loads((tmp_path / "tested" / FILE).read_text())
    result = tmp_path / "trained/result.json"
    result.write_text(result.read_text().replace("MaPLe", "Other"))
    shutil.rmtree(tmp_path / "tested")
    assert run(*options, output=tmp_path / "tested")[0] == 0
    now = json.loads((tmp_path / "tested" / FILE).read_text())
    assert [name for name in stored if stored[name] != now[name]] == ["trained"]


def test_a_run_with_extend_cfg_is_recognised(argv, tmp_path, capsys):
    extension = tmp_path / "their_train.py"
    extension.write_text("def extend_cfg(cfg):\n    cfg.TRAINER.THEIRS = type(cfg)({'W': 1})\n")
    extended = [*argv, "--extend-cfg", str(extension), "--output-dir", str(tmp_path / "extended")]
    assert train.main(extended) == 0
    assert unchanged(extended)
    extension.write_text(extension.read_text().replace("1", "2"))
    assert not unchanged(extended)
    capsys.readouterr()
    assert train.main(extended) == 2
    assert "TRAINER.THEIRS.W (1 in the file, 2 now)" in capsys.readouterr().err


def test_a_class_without_a_plugin_file_has_no_hashes(argv, tmp_path, monkeypatch):
    """Such a run always gets the full check."""

    class Unwritten(TRAINER_REGISTRY.get("ZeroshotCLIP")):
        node = "ZEROSHOTCLIP"

    monkeypatch.setitem(TRAINER_REGISTRY._objects, "Unwritten", Unwritten)
    other = [*argv, "--trainer", "Unwritten", "--output-dir", str(tmp_path / "other")]
    assert train.main(other) == 0
    assert not (tmp_path / "other" / FILE).exists()
    assert not unchanged(other)
