"""experiments/epochs.py: the accuracies of a run after each epoch, and their curves in a report."""

import json

import pytest

import report
from dassl.engine.formats import read_epochs, read_result
from experiments import epochs


@pytest.mark.parametrize("trainer", ["MaPLe", "TipAdapterF"])
def test_base_and_new_classes_are_tested_after_each_epoch(trainer, run, tmp_path, capsys):
    """The last epoch's accuracy is that of result.json, and the first epoch's checkpoint is another model."""
    out = tmp_path / "out"
    words = ("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 3, "OPTIM.LR", 0.5, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert run(*words, trainer=trainer)[0] == 0
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert epochs.main([str(out)]) == 0
    assert all(path.read_bytes() == content for path, content in files.items()), "a test changed the run's files"
    scores = read_epochs(out)
    assert [each.epoch for each in scores] == [1, 2, 3]
    assert scores[-1].base == pytest.approx(read_result(out).accuracy)
    assert all(each.new is not None and each.all is None for each in scores)
    assert report.main([str(out), "--html", str(tmp_path / "report.html")]) == 0
    assert '<figure id="epochs">' in (tmp_path / "report.html").read_text()


def test_a_run_on_all_classes_has_one_curve(run, tmp_path):
    assert run("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.MAX_EPOCH", 2)[0] == 0
    assert epochs.main([str(tmp_path / "out")]) == 0
    assert [(each.base, each.all is None) for each in read_epochs(tmp_path / "out")] == [(None, False)] * 2


def test_runs_without_checkpoints_of_the_epochs_are_refused(run, tmp_path, capsys):
    assert run("OPTIM.MAX_EPOCH", 2)[0] == 0
    assert epochs.main([str(tmp_path / "out")]) == 2
    assert "kept only its last checkpoints. To keep all, train with TRAIN.CHECKPOINT_FREQ 1" in capsys.readouterr().err
    assert run("--eval-only", "--model-dir", tmp_path / "out", output=tmp_path / "tested")[0] == 0
    assert epochs.main([str(tmp_path / "tested")]) == 2
    assert f"was only tested. Name the folder of the training: {tmp_path / 'out'}" in capsys.readouterr().err
    assert epochs.main([str(tmp_path / "none")]) == 2
    assert run("TRAIN.CHECKPOINT_FREQ", 1, output=tmp_path / "one")[0] == 0
    assert epochs.main([str(tmp_path / "one")]) == 2
    assert "no checkpoints of several epochs" in capsys.readouterr().err
    (tmp_path / "one/result.json").unlink()
    assert epochs.main([str(tmp_path / "one")]) == 2
    assert "isn't finished" in capsys.readouterr().err
    assert run(trainer="ZeroshotCLIP", output=tmp_path / "zero")[0] == 0
    assert epochs.main([str(tmp_path / "zero")]) == 2
    assert "ZeroshotCLIP learns nothing" in capsys.readouterr().err


@pytest.mark.parametrize("scores", [[{"epoch": 1, "all": 200}], [{"epoch": 1, "all": 20}, {"epoch": 1, "all": 30}]])
def test_a_damaged_file_costs_only_its_curve(scores, run, tmp_path, capsys):
    assert run()[0] == 0
    (tmp_path / "out/epochs.json").write_text(json.dumps(scores))
    assert report.main([str(tmp_path / "out"), "--html", str(tmp_path / "report.html")]) == 0
    assert "no accuracies by epoch of a run" in (tmp_path / "report.html").read_text()
