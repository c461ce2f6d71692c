"""The loggers of TRAIN.LOGGERS: what they store, and what happens if they are missing or fail."""

import importlib.util

import pytest
import torch
from conftest import result_of
from tiny_engine import Killed, LinearTrainer, kill_at

from dassl.engine import loggers
from dassl.engine.loggers import LOGGER_REGISTRY, RunLogger
from dassl.utils import InputError


class Recorder(RunLogger):
    """A logger of a plugin. It fails at the step `fails_at`, or when it is closed if that is -1."""

    fails_at: int | None = None

    def __init__(self, folder, cfg):
        self.folder, self.rows, self.is_closed = folder, [], False
        torch.rand(3)
        type(self).opened = self

    def write(self, values, step):
        if step == self.fails_at:
            raise ConnectionError("no\nnetwork")
        self.rows.append((dict(values), step))

    def close(self):
        if self.fails_at == -1:
            raise ConnectionError("no\nnetwork")
        self.is_closed = True


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(LOGGER_REGISTRY._objects, "Recorder", Recorder)
    monkeypatch.setattr(Recorder, "fails_at", None)
    return Recorder


def test_a_logger_of_a_plugin_gets_all_values(make_config, tmp_path, recorder):
    LinearTrainer(make_config("TRAIN.LOGGERS", ("recorder",), "TRAIN.VAL_FREQ", 3)).train()
    found = recorder.opened
    assert (found.folder, found.is_closed) == (tmp_path / "out/recorder", True)
    assert [(sorted(values), step) for values, step in found.rows[:6]] == [
        (["train/loss", "train/lr"], step) for step in range(6)
    ]
    (validation, epoch), (test, _) = found.rows[6:]
    assert ("val/accuracy" in validation, "test/accuracy" in test, epoch) == (True, True, 2)
    assert not (tmp_path / "out/tensorboard").exists()


@pytest.mark.parametrize("fails_at", [0, 3, -1])
def test_a_logger_that_fails_does_not_stop_the_run(make_config, tmp_path, recorder, fails_at, capsys):
    plain = LinearTrainer(make_config("TRAIN.LOGGERS", (), "OUTPUT_DIR", str(tmp_path / "plain")))
    plain.train()
    recorder.fails_at = fails_at
    trainer = LinearTrainer(make_config("TRAIN.LOGGERS", ("Recorder", "TensorBoard")))
    trainer.train()
    assert capsys.readouterr().out.count("the logger recorder is switched off, because it failed: ConnectionError") == 1
    assert torch.equal(trainer.model[1].weight, plain.model[1].weight)
    assert result_of(tmp_path / "out")["accuracy"] == result_of(tmp_path / "plain")["accuracy"]
    assert list((tmp_path / "out/tensorboard").iterdir())


def test_errors_before_the_training(make_config, monkeypatch):
    with pytest.raises(InputError, match=r"unknown logger .*Did you mean WandB"):
        LinearTrainer(make_config("TRAIN.LOGGERS", ("WandDB",)))
    monkeypatch.setattr(loggers.WandB, "module", "no_such_module")
    with pytest.raises(InputError, match=r"names wandb, but its package isn't installed\. Run: pip install wandb$"):
        LinearTrainer(make_config("TRAIN.LOGGERS", ("tensorboard", "wandb")))
    monkeypatch.setattr(loggers.TensorBoard, "__init__", lambda *_: 1 / 0)
    with pytest.raises(InputError, match=r"can't open the logger TensorBoard \(TRAIN.LOGGERS\): ZeroDivisionError"):
        LinearTrainer(make_config()).train()


@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb isn't installed")
def test_wandb(make_config, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "out/wandb").mkdir(parents=True)
    (tmp_path / "out/wandb/run_id.txt").write_text("abcd1234\n")  # as in the folder of a resumed run
    LinearTrainer(make_config("OPTIM.MAX_EPOCH", 1, "TRAIN.LOGGERS", ("wandb",), "TRAIN.VAL_FREQ", 1)).train()
    (file,) = (tmp_path / "out/wandb").glob("offline-run-*/*.wandb")
    assert file.name == "run-abcd1234.wandb"
    stored = file.read_bytes()
    for key in (b"train/loss", b"val/accuracy", b"test/accuracy", b"train/step", b"TwoClasses"):
        assert key in stored


@pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow isn't installed")
def test_mlflow(make_config, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ("OPTIM.MAX_EPOCH", 2, "TRAIN.LOGGERS", ("mlflow",), "TRAIN.VAL_FREQ", 1)
    cut = LinearTrainer(make_config(*words))
    kill_at(cut, 1)
    with pytest.raises(Killed):
        cut.train()
    cut.close_writer()
    LinearTrainer(make_config(*words)).train()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "out/mlflow/store").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("prompt-learning").experiment_id])
    assert (run.info.status, run.data.params["OPTIM.MAX_EPOCH"]) == ("FINISHED", "2")
    steps = {
        key: [metric.step for metric in client.get_metric_history(run.info.run_id, key)]
        for key in ("train/loss", "val/accuracy", "test/accuracy")
    }
    assert steps == {"train/loss": [0, 1, 2, 3], "val/accuracy": [0, 1], "test/accuracy": [1]}
    assert run.data.metrics["test/accuracy"] == pytest.approx(result_of(tmp_path / "out")["accuracy"])
