"""Third-party trainers and evaluators: what files written for Dassl.pytorch override must keep working."""

import json
from pathlib import Path

import pytest
import torch
from conftest import result_of
from tiny_engine import LinearTrainer

from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint


class ThirdPartyTrainer(LinearTrainer):
    """Overrides the methods that published trainers override."""

    def build_model(self):
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(self.num_classes))
        self.model(torch.zeros(1, 3, *self.cfg.INPUT.SIZE))
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("third_party", self.model, self.optim, self.sched)

    def load_model(self, directory, epoch=None):
        name = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        self.model.load_state_dict(load_checkpoint(Path(directory) / "third_party" / name)["state_dict"])

    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        self.evaluator.reset()
        for batch in self.test_loader:
            image, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(image), label)
        return next(iter(self.evaluator.evaluate().values()))


class ThirdPartyEvaluator(EvaluatorBase):
    """Doesn't define `record`."""

    def __init__(self, cfg, lab2cname=None, **kwargs):
        super().__init__(cfg)
        self.inner = Classification(cfg)

    def reset(self):
        self.inner.reset()

    def process(self, mo, gt):
        self.inner.process(mo, gt)

    def evaluate(self):
        return {"my_score": self.inner.record()["accuracy"]}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(TRAINER_REGISTRY._objects, "ThirdPartyTrainer", ThirdPartyTrainer)
    monkeypatch.setitem(EVALUATOR_REGISTRY._objects, "ThirdPartyEvaluator", ThirdPartyEvaluator)


def test_a_third_party_trainer_writes_a_result(run, tmp_path):
    code, _, err = run(trainer="ThirdPartyTrainer")
    assert code == 0, err
    result = result_of(tmp_path / "out")
    assert (result["epoch"], result["options"], result["text_chunk"]) == (1, {}, 0)
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    assert all("loss" in json.loads(line) for line in lines)


def test_a_third_party_evaluator_writes_a_result(run, tmp_path):
    code, _, err = run("TEST.EVALUATOR", "ThirdPartyEvaluator")
    assert code == 0, err
    assert "my_score" in result_of(tmp_path / "out")


def test_an_evaluator_without_logits_writes_no_predictions(run, tmp_path):
    with pytest.warns(UserWarning, match="ThirdPartyEvaluator doesn't collect logits"):
        code, _, err = run("TEST.EVALUATOR", "ThirdPartyEvaluator", "TEST.SAVE_PREDICTIONS", True)
    assert code == 0, err
    assert "my_score" in result_of(tmp_path / "out")
    assert not (tmp_path / "out/predictions.npz").exists()
