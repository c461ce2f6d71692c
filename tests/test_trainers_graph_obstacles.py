"""TRAINER.CUDA_GRAPH: steps that can't be captured stay eager, and the log says why."""

import pytest
import torch
from captured_steps import (
    RECORD,
    WARM_UP,
    assert_equal,
    batches,
    captured,
    eager,
    trained,
)
from recorded_ops import OpCapture
from torch.nn import functional as F

from dassl.optim import build_optimizer
from trainers.base import Batch, total
from trainers.common import graph
from trainers.coop import CoOp, CoOpCLIP

pytestmark = pytest.mark.usefixtures("cpu_as_gpu")


class OwnBackward(CoOpCLIP):
    def backward(self, losses, scaler):
        scaler.scale(2 * total(losses)).backward()


class TrainsOwnBackward(CoOp):
    method = OwnBackward


class OwnLoop(CoOp):
    def forward_backward(self, batch):
        return super().forward_backward(batch)


def add_hook(trainer):
    trainer.model.clip.visual.register_forward_hook(lambda *_: None)


def add_optimizer(trainer):
    trainer.register_model("second", torch.nn.Linear(1, 1), build_optimizer(torch.nn.Linear(1, 1), trainer.cfg.OPTIM))


def remove_captures(trainer):
    graph.CAPTURES.pop("cpu")


SAMPLING = ("SoftCPT", "TRAINER.SOFTCPT.CSC", "True", "TRAINER.SOFTCPT.CLS_SAMPLE_RATE", "0.5")


@pytest.mark.parametrize(
    ("arguments", "change", "reason"),
    [
        (SAMPLING, None, "SoftCPTCLIP.has_static_steps is False"),
        ((TrainsOwnBackward,), None, "OwnBackward.has_static_steps is False"),
        ((OwnLoop,), None, "OwnLoop has another `forward_backward`"),
        (("CoOp", "OPTIM.NAME", "rmsprop"), None, "the optimiser has no fused step"),
        (("CoOp",), add_hook, "a module has a hook"),
        (("CoOp",), add_optimizer, "the trainer has 2 optimisers"),
        (("CoOp",), remove_captures, "they need a CUDA GPU, but the device is cpu"),
    ],
)
def test_a_known_obstacle_is_logged_once(arguments, change, reason, make_trainer, capsys):
    trainer = make_trainer(*arguments)
    if change:
        change(trainer)
    capsys.readouterr()
    trained(captured(trainer))
    assert trainer.captured is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("TRAINER.CUDA_GRAPH: training without CUDA graphs, because ")
    assert reason in line


def test_anomaly_detection_is_an_obstacle(make_trainer, capsys):
    trainer = make_trainer()
    with torch.autograd.set_detect_anomaly(True):
        trainer.capture_steps()
    assert trainer.captured is None
    assert "anomaly detection" in capsys.readouterr().out


class Waits(CoOpCLIP):
    """Reads a value in a step, and makes a weight from it."""

    def losses(self, output, batch):
        weight = 1 + output.logits.max().item()
        return {"ce": (weight, F.cross_entropy(output.logits, batch.labels))}


class TrainsWaits(CoOp):
    method = Waits


class FailsToRecord(OpCapture):
    def record(self, work):
        work = super().record(work)
        raise RuntimeError("CUDA error:\nout of memory")


class WithDomains(Batch):
    """A batch with a further field, which isn't copied to the tensors of a graph."""


class ReadsDomains(CoOp):
    def read_batch(self, batch):
        read = super().read_batch(batch)
        return WithDomains(read.images, read.labels, read.views)


@pytest.mark.parametrize(
    ("trainer", "capture", "calls", "reason"),
    [
        (TrainsWaits, OpCapture, [WARM_UP] * 3, "a step waits for the GPU (" + __file__ + ":"),
        ("CoOp", FailsToRecord, [*[WARM_UP] * 3, RECORD], "the capture failed: CUDA error: out of memory"),
        (ReadsDomains, OpCapture, [], "its batches have the type WithDomains instead of Batch"),
    ],
)
def test_a_step_that_cant_be_captured_continues_eagerly(
    trainer, capture, calls, reason, make_trainer, monkeypatch, capsys
):
    expected = trained(eager(make_trainer(trainer)))
    monkeypatch.setitem(graph.CAPTURES, "cpu", capture)
    ours = captured(make_trainer(trainer))
    capsys.readouterr()
    result = trained(ours)
    assert OpCapture.calls == calls
    assert_equal(result, expected)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"TRAINER.CUDA_GRAPH: training continues without CUDA graphs, because {reason}")


def test_a_loss_of_nan_stops_training(make_trainer):
    trainer = captured(make_trainer())
    images = trained(trainer, (4,) * 4)[0] and batches(trainer.model.clip, (4,))[0]
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        trainer.forward_backward(images | {"img": images["img"] * torch.nan})
