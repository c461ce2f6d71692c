"""Validations during the training: TRAIN.VAL_FREQ and TRAIN.PATIENCE."""

import json
import random

import numpy as np
import pytest
import torch
from conftest import config, result_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_engine import Killed, LinearTrainer, kill_at

from dassl.config import check_values, differing
from dassl.engine.formats import read_losses
from dassl.utils import InputError, load_checkpoint


def lines_of(folder):
    """The lines of metrics.jsonl: those of batches, and those of validations."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "split" not in line], [line for line in lines if line.get("split") == "val"]


class Scripted(LinearTrainer):
    """A trainer whose validation results are fixed for each epoch. It also draws random numbers in a validation."""

    results = (50.0, 75.0, 70.0, 75.0, 60.0, 99.0)

    def test(self, split=None):
        result = super().test(split)
        if split != "val":
            return result
        random.random(), np.random.rand(), torch.rand(3)
        return self.results[self.epoch]


def killed(trainer, epoch, before):
    """Train until `trainer` calls its method `before` in an epoch (from 0), then stop as a kill would."""
    kill_at(trainer, epoch, before)
    with pytest.raises(Killed):
        trainer.train()


def test_a_validation_is_logged_every_n_epochs_and_after_the_last(make_config, tmp_path, capsys):
    LinearTrainer(make_config("TRAIN.VAL_FREQ", 2)).train()
    batches, validations = lines_of(tmp_path / "out")
    assert len(batches) == 6
    assert read_losses(tmp_path / "out") == [line["loss"] for line in batches]
    assert [line["epoch"] for line in validations] == [2, 3]
    events = EventAccumulator(str(tmp_path / "out/tensorboard"))
    events.Reload()
    written = [(event.step, event.value) for event in events.Scalars("val/accuracy")]
    assert written == [(line["epoch"] - 1, line["accuracy"]) for line in validations]
    accuracy = validations[0]["accuracy"]
    assert f"Validation after epoch 2/3: {accuracy:.2f} (best: {accuracy:.2f})" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [1, -1])
def test_validations_do_not_change_the_training(make_config, tmp_path, seed):
    weights = []
    for freq in (0, 1):
        torch.manual_seed(5)
        random.seed(5)
        trainer = Scripted(make_config("TRAIN.VAL_FREQ", freq, "SEED", seed, "OUTPUT_DIR", str(tmp_path / str(freq))))
        trainer.train()
        weights.append(trainer.model[1].weight)
    assert torch.equal(*weights)
    assert lines_of(tmp_path / "0")[0] == lines_of(tmp_path / "1")[0]
    assert len(lines_of(tmp_path / "1")[1]) == 3


def test_missing_validation_images_are_an_error_at_the_start(make_config):
    trainer = LinearTrainer(make_config("TRAIN.VAL_FREQ", 1))
    trainer.val_loader = None
    with pytest.raises(InputError, match=r"TRAIN\.VAL_FREQ 1 needs validation images, but TwoClasses has none"):
        trainer.train()


def test_patience_without_validations_is_an_error():
    with pytest.raises(InputError, match=r"PATIENCE 2 needs validations\. Set TRAIN\.VAL_FREQ to 1 or more"):
        check_values(config("TRAIN.PATIENCE", 2))
    check_values(config("TRAIN.PATIENCE", 2, "TEST.FINAL_MODEL", "best_val"))


@pytest.mark.parametrize(("final", "tested"), [("last_step", 4), ("best_val", 2)])
def test_a_stopped_run_is_finished(make_config, tmp_path, final, tested, capsys):
    """The results after epoch 2 aren't better, so two of them stop the training after epoch 4."""
    words = ("OPTIM.MAX_EPOCH", 6, "TRAIN.VAL_FREQ", 1, "TRAIN.PATIENCE", 2, "TEST.FINAL_MODEL", final)
    Scripted(make_config(*words)).train()
    assert [line["epoch"] for line in lines_of(tmp_path / "out")[1]] == [1, 2, 3, 4]
    assert result_of(tmp_path / "out")["epoch"] == tested
    out = capsys.readouterr().out
    assert "Stop after epoch 4/6: TRAIN.PATIENCE 2 is reached without a better validation result" in out
    assert out.index("Stop after") < out.index("Finish training")


@pytest.mark.parametrize(
    ("epoch", "before"),
    [(2, "run_epoch"), (1, "save_model"), (3, "save_model"), (3, "after_train")],
    ids=["in an epoch", "after the best validation", "after the last validation", "after the training"],
)
def test_a_killed_run_stops_at_the_same_epoch(make_config, tmp_path, epoch, before):
    words = ("OPTIM.MAX_EPOCH", 6, "TRAIN.VAL_FREQ", 1, "TRAIN.PATIENCE", 2)
    whole = Scripted(make_config(*words))
    whole.train()
    cut = (*words, "OUTPUT_DIR", str(tmp_path / "cut"))
    killed(Scripted(make_config(*cut)), epoch, before)
    torch.rand(7)
    resumed = Scripted(make_config(*cut))
    resumed.train()
    assert resumed.max_epoch == whole.max_epoch == 4
    assert torch.equal(resumed.model[1].weight, whole.model[1].weight)
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "out/metrics.jsonl").read_text()
    assert result_of(tmp_path / "cut")["epoch"] == 4


def test_a_lost_best_model_is_found_out_after_an_epoch_without_validation(make_config, tmp_path):
    words = ("OPTIM.MAX_EPOCH", 6, "TRAIN.VAL_FREQ", 2, "TEST.FINAL_MODEL", "best_val")
    killed(Scripted(make_config(*words)), 3, "run_epoch")
    (tmp_path / "out/linear/model-best.pth.tar").unlink()
    with pytest.raises(InputError, match="best model so far"):
        Scripted(make_config(*words)).train()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), set()),
        (("TRAIN.PATIENCE", 1), {"TRAIN.VAL_FREQ"}),
        (("TEST.FINAL_MODEL", "best_val"), {"TRAIN.VAL_FREQ"}),
    ],
)
def test_the_frequency_does_not_make_another_run_unless_validations_matter(tmp_path, words, found):
    (tmp_path / "config.yaml").write_text(config("TRAIN.VAL_FREQ", 1, *words).dump())
    assert set(differing(config("TRAIN.VAL_FREQ", 2, *words), tmp_path / "config.yaml")) == found


def test_a_search_after_the_training_is_not_changed(run, tmp_path):
    """Tip-Adapter-F searches alpha and beta after the last epoch only."""
    words = ("OPTIM.MAX_EPOCH", 2, "DATASET.NUM_SHOTS", 1)
    assert run(*words, trainer="TipAdapterF", output=tmp_path / "plain")[0] == 0
    code, _, err = run(*words, "TRAIN.VAL_FREQ", 1, trainer="TipAdapterF")
    assert code == 0, err
    ours, plain = (
        load_checkpoint(tmp_path / name / "tip_adapter/model.pth.tar-2")["state_dict"] for name in ("out", "plain")
    )
    assert all(torch.equal(tensor, plain[name]) for name, tensor in ours.items())
    assert [line["epoch"] for line in lines_of(tmp_path / "out")[1]] == [1, 2]


def test_a_method_finishes_its_training_if_it_is_stopped(run, tmp_path, monkeypatch):
    """PromptSRC's prompts are then the average of the epochs, and each epoch is counted once."""
    from dassl.engine.trainer import SimpleTrainer

    tested = SimpleTrainer.test
    monkeypatch.setattr(SimpleTrainer, "test", lambda self, split=None: min(tested(self, split), 0.0))
    words = ("DATASET.NUM_SHOTS", 1, "OPTIM.LR_SCHEDULER", "single_step", "OPTIM.STEPSIZE", "(4,)", "OPTIM.MAX_EPOCH")
    assert run(*words, 4, "TRAIN.VAL_FREQ", 1, "TRAIN.PATIENCE", 1, trainer="PromptSRC")[0] == 0
    assert run(*words, 2, trainer="PromptSRC", output=tmp_path / "short")[0] == 0
    ours, short = (
        load_checkpoint(tmp_path / name / "VLPromptLearner/model.pth.tar-2")["state_dict"] for name in ("out", "short")
    )
    assert all(torch.equal(tensor, short[name]) for name, tensor in ours.items())
    assert result_of(tmp_path / "out")["epoch"] == 2


def test_a_run_without_a_test_saves_no_best_model_and_resumes(make_config, tmp_path):
    words = ["TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", True, "TRAIN.VAL_FREQ", 1]
    killed(LinearTrainer(make_config(*words)), 2, "run_epoch")
    LinearTrainer(make_config(*words)).train()
    assert [line["epoch"] for line in lines_of(tmp_path / "out")[1]] == [1, 2, 3]


def test_loggers_are_closed_when_a_training_fails(make_config, monkeypatch):
    closed = []
    monkeypatch.setattr(LinearTrainer, "close_writer", lambda self: closed.append(1))
    monkeypatch.setattr(LinearTrainer, "after_epoch", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        LinearTrainer(make_config()).train()
    assert closed


def test_a_resume_warns_of_a_lost_validation(make_config, tmp_path, capsys):
    killed(LinearTrainer(make_config("TRAIN.VAL_FREQ", 1)), 2, "run_epoch")
    file = tmp_path / "out/metrics.jsonl"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if '"epoch": 2, "split"' not in line))
    LinearTrainer(make_config("TRAIN.VAL_FREQ", 1)).train()
    assert f"Warning: {file} lacks 1 of 2 validations" in capsys.readouterr().out
