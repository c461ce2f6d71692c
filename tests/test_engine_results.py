"""`result.json`, `predictions.npz`, `metrics.jsonl` and `fewshot.json`."""

import csv
import json
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from conftest import result_of
from tiny_engine import LinearTrainer

from dassl.engine.metrics_log import MetricsLog
from dassl.engine.results import command_line, write_picks


class Described(LinearTrainer):
    """A trainer that adds fields to its results."""

    def result_fields(self):
        return {"options": {"depth": 3}, "colour": "red"}


def test_fields_of_a_result(make_config, tmp_path):
    Described(make_config("OPTIM.MAX_EPOCH", 1, "PROTOCOL", "few_shot")).train()
    result = result_of(tmp_path / "out")
    assert result["protocol"] == "few_shot"
    assert (result["options"], result["text_chunk"], result["colour"]) == ({"depth": 3}, 0, "red")
    assert (result["dataset"], result["trained_on"], result["test_only"]) == ("TwoClasses", "TwoClasses", False)
    assert 0 < result["seconds"] < 60


@pytest.mark.parametrize(
    ("module", "program", "command"),
    [
        (None, "train.py", "python train.py --seed 1 'a b'"),
        ("experiments.run", "/project/experiments/run.py", "python -m experiments.run --seed 1 'a b'"),
        ("package.__main__", "/project/package/__main__.py", "python -m package --seed 1 'a b'"),
    ],
)
def test_the_recorded_command_can_be_run(module, program, command, monkeypatch):
    spec = ModuleSpec(module, None) if module else None
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec, raising=False)
    monkeypatch.setattr(sys, "argv", [program, "--seed", "1", "a b"])
    assert command_line() == command


def test_options_of_a_prompt_trainer_are_in_its_result(run, tmp_path):
    assert run("TRAINER.MAPLE.N_CTX", 3, "PROTOCOL", "base2new")[0] == 0
    result = result_of(tmp_path / "out")
    assert result["options"]["N_CTX"] == 3
    assert result["text_chunk"] > 0
    assert result["protocol"] == "base2new"


def test_predictions_follow_the_order_of_the_images(run, tmp_path, own_data):
    overrides = ("TEST.SAVE_PREDICTIONS", True, "DATALOADER.TEST.SAMPLER", "RandomSampler")
    assert run(*overrides)[0] == 0
    saved = np.load(tmp_path / "out/predictions.npz")
    folders = sorted(path.name for path in own_data.iterdir())
    assert [folders.index(path.split("/")[0]) for path in saved["impath"]] == saved["label"].tolist()
    hits = (saved["logits"].argmax(1) == saved["label"]).sum()
    assert hits == result_of(tmp_path / "out")["n_correct"]
    rows = list(csv.DictReader((tmp_path / "out/predictions.csv").open()))
    assert [(row["image"], row["class"]) for row in rows] == [(path, path.split("/")[0]) for path in saved["impath"]]
    assert [folders.index(row["predicted"]) for row in rows] == saved["logits"].argmax(1).tolist()
    assert sum(int(row["correct"]) for row in rows) == hits


def test_paths_in_picks_are_relative_to_the_root(make_config, tmp_path):
    cfg = make_config("DATASET.ROOT", str(tmp_path))
    (tmp_path / "out").mkdir()
    write_picks(LinearTrainer(cfg))
    picks = json.loads((tmp_path / "out/fewshot.json").read_text())
    assert picks["train"][1] == ["images/1.png", 1, "c1"]
    assert len(picks["val"]) == 4


def test_the_metrics_of_a_killed_epoch_are_dropped(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for epoch in (1, 2):
        log.write(epoch=epoch, batch=1, loss=0.5)
    with log.path.open("a") as file:
        file.write('{"epoch": 2, "ba')
    MetricsLog(tmp_path, 1).write(epoch=2, batch=1, loss=0.4)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(line["epoch"], line["loss"]) for line in lines] == [(1, 0.5), (2, 0.4)]
