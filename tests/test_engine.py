"""The training loop: its hooks, its logs, and the registered models."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_engine import LinearTrainer, LinearTrainerXU
from torch.nn import functional as F

from dassl.engine.trainer import SimpleNet, SummaryWriter
from dassl.utils import InputError


class TwoLosses(LinearTrainer):
    """A cross-entropy and a penalty on the weights, logged as two terms."""

    def forward_backward(self, batch):
        image, label, _ = self.parse_batch_train(batch)
        terms = {"cross_entropy": F.cross_entropy(self.model(image), label), "penalty": self.model[1].weight.norm()}
        self.model_backward_and_update(sum(terms.values()))
        return {name: term.item() for name, term in terms.items()}


def test_each_loss_term_is_logged(make_config, tmp_path, capsys):
    TwoLosses(make_config("OPTIM.MAX_EPOCH", 1)).train()
    log = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch [1/1] batch [2/2]")]
    assert len(log) == 1
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(tmp_path / "out/tensorboard"))
    events.Reload()
    for name in ("cross_entropy", "penalty"):
        first, last = (line[name] for line in lines)
        average = (first + last) / 2
        assert f"{name} {last:.4f} ({average:.4f})" in log[0]
        written = [event.value for event in events.Scalars(f"train/{name}")]
        assert written == pytest.approx([first, average])


def test_summary_writer_is_importable_by_its_dassl_path():
    from torch.utils import tensorboard

    assert SummaryWriter is tensorboard.SummaryWriter


def test_the_engine_is_imported_on_first_use():
    code = "import sys, dassl.engine; assert 'dassl.engine.trainer' not in sys.modules; dassl.engine.TrainerX"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


class Recorder(LinearTrainer):
    """Records which hooks the loop calls."""

    def __init__(self, cfg):
        self.calls = []
        super().__init__(cfg)

    def before_epoch(self):
        self.calls.append("before_epoch")

    def run_epoch(self):
        super().run_epoch()
        self.calls.append("run_epoch")

    def end_epoch(self):
        self.calls.append("end_epoch")

    def test(self, split=None):
        self.calls.append(f"test {split}")
        return super().test(split)

    def save_model(self, epoch, directory, is_best=False, **kwargs):
        self.calls.append("save best" if is_best else "save")
        super().save_model(epoch, directory, is_best, **kwargs)


def test_hooks_are_called_in_order(make_config):
    trainer = Recorder(make_config("OPTIM.MAX_EPOCH", 1, "TEST.FINAL_MODEL", "best_val"))
    trainer.train()
    assert trainer.calls == [
        "before_epoch", "run_epoch", "end_epoch", "test val", "save best", "save", "test None",
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "batches"), [("train_x", 2), ("train_u", 1), ("smaller_one", 1)])
def test_labelled_and_unlabelled_batches_are_paired(make_config, count, batches):
    trainer = LinearTrainerXU(make_config("TRAIN.COUNT_ITER", count, "TEST.NO_TEST", True))
    trainer.train()
    assert trainer.num_batches == batches


def test_an_unknown_epoch_length_is_an_error(make_config):
    with pytest.raises(InputError, match="smaller_one"):
        LinearTrainerXU(make_config("TRAIN.COUNT_ITER", "smallest")).train()


def test_training_without_images_is_an_error(make_config):
    trainer = LinearTrainer(make_config())
    trainer.train_loader_x = None
    with pytest.raises(InputError, match="TwoClasses has no training images"):
        trainer.train()


def test_simple_net(make_config):
    overrides = ("MODEL.BACKBONE.PRETRAINED", False, "MODEL.BACKBONE.NAME")
    cfg = make_config(*overrides, "resnet18")
    net = SimpleNet(cfg, cfg.MODEL, 2)
    logits, features = net(torch.zeros(2, 3, 32, 32), return_feature=True)
    assert (logits.shape, features.shape, net.fdim) == ((2, 2), (2, 512), 512)
    cfg = make_config(*overrides, "resnet18", "MODEL.HEAD.NAME", "mlp", "MODEL.HEAD.HIDDEN_LAYERS", (16,))
    assert SimpleNet(cfg, cfg.MODEL, 2).fdim == 16
    with pytest.raises(InputError, match="resnet18"):
        SimpleNet(cfg, make_config(*overrides, "resnet19").MODEL, 2)


def test_a_loss_of_nan_stops_training(make_config):
    with pytest.raises(FloatingPointError, match="Loss is infinite or NaN!"):
        LinearTrainer(make_config()).model_backward_and_update(torch.tensor(float("nan"), requires_grad=True))


def test_errors_of_registered_models(make_config):
    trainer = LinearTrainer(make_config())
    with pytest.raises(KeyError, match="sleep"):
        trainer.set_model_mode("sleep")
    with pytest.raises(InputError, match="linear"):
        trainer.get_model_names(["huge"])
    with pytest.raises(KeyError, match="already"):
        trainer.register_model("linear", trainer.model)
    unfinished = object.__new__(LinearTrainer)
    with pytest.raises(RuntimeError, match="__init__"):
        unfinished.register_model("linear")
