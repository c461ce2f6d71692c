"""TRAINER.CUDA_GRAPH: captured steps give the results of eager steps, and steps that can't be captured stay eager.

`OpCapture` stands in for CUDA graphs. It replays recorded operations without Python code, so a number or a tensor that
a replay should have read anew makes these tests fail.
"""

import importlib
import json
import shutil
import sys

import pytest
import synthetic
import torch
from conftest import depth_words
from recorded_ops import OpCapture
from tiny_methods import TRAINERS
from torch.nn import functional as F

from clip.model import from_state_dict
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_optimizer, fused
from dassl.utils import load_checkpoint
from trainers.base import Batch, total
from trainers.common import graph
from trainers.coop import CoOp, CoOpCLIP

WARM_UP, RECORD, REPLAY = "warm up", "record", "replay"
CAPTURED = [*[WARM_UP] * graph.WARM_UP_STEPS, RECORD, REPLAY, REPLAY]  # the calls for five batches
LEARNING = [name for name, cls in TRAINERS.items() if cls.checkpoints and cls.method.has_loop]


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch):
    """The CPU counts as a GPU: it has the fused step, and `OpCapture` for CUDA graphs."""
    monkeypatch.setattr(fused, "FUSED_DEVICES", ("cpu",))
    monkeypatch.setitem(graph.CAPTURES, "cpu", OpCapture)


@pytest.fixture
def make(tiny_weights, monkeypatch):
    """make(trainer, *words) -> a trainer for batches of noise. `trainer` is a name or a subclass of CoOp."""

    def make(trainer="CoOp", *words):
        name = trainer if isinstance(trainer, str) else trainer.__name__
        if not isinstance(trainer, str):
            trainer.node, trainer.default_config = "COOP", "CoOp/vit_b16_ep50"
            monkeypatch.setitem(TRAINER_REGISTRY._objects, name, trainer)
        words = (*depth_words(name, 2), "OPTIM.LR", "0.05", "OPTIM.LR_SCHEDULER", "cosine", *words)
        made = synthetic.build_trainer(name, from_state_dict(tiny_weights), 5, "fp32", words)
        made.model.clip.text_attention = "padded"  # as on a GPU
        made.scaler = torch.amp.GradScaler(
            "cpu", init_scale=1024, growth_interval=2
        )  # the scale changes while training
        return made

    return make


def batches(clip, sizes):
    return [synthetic.batch_of(clip, size, 5, seed) for seed, size in enumerate(sizes)]


def trained(trainer, sizes=(4,) * 5, between=lambda number: None):
    """Train on batches of these sizes, where each epoch has two batches. Return everything that a step changes."""
    torch.manual_seed(0)
    logs = []
    for number, batch in enumerate(batches(trainer.model.clip, sizes)):
        trainer.batch_idx = number % 2
        logs.append(trainer.forward_backward(batch))
        between(number)
    state = trainer.model.state_dict() | trainer.optim.state_dict()["state"] | trainer.scaler.state_dict()
    return logs, state, trainer.get_current_lr()


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def captured(trainer):
    trainer.capture_steps()
    return trainer


def eager(trainer):
    """The trainer runs all steps eagerly, but with learning rate tensors."""
    if steps := captured(trainer).captured:  # None: the trainer's steps can't be captured, so they are eager anyway
        steps.is_eager = True
    return trainer


@pytest.mark.parametrize("name", LEARNING)
def test_captured_steps_of_every_trainer_equal_eager_steps(name, make):
    """Equal losses, accuracies, parameters, momentum, loss scales and learning rates, to the bit."""
    ours = captured(make(name))
    result = trained(ours)
    assert OpCapture.calls == (CAPTURED if ours.model.has_static_steps else [])
    assert_equal(result, trained(eager(make(name))))


def test_captured_steps_equal_plain_steps_up_to_rounding(make):
    """Plain steps read the learning rate as a number, in double precision."""
    ours = captured(make())
    (logs, _, rate), (plain, _, expected) = trained(ours), trained(make())
    assert rate == expected
    assert isinstance(ours.optim.param_groups[0]["lr"], float)  # checkpoints hold a number
    assert [log["loss"] for log in logs] == pytest.approx([log["loss"] for log in plain], rel=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad"])
def test_captured_steps_of_every_fused_optimiser(name, make):
    words = ("CoOp", "OPTIM.NAME", name)
    result = trained(captured(make(*words)))
    assert OpCapture.calls == CAPTURED
    assert_equal(result, trained(eager(make(*words))))


def test_chunks_of_the_text_tower_give_the_same_results(make):
    words = ("MaPLe", "TRAINER.TEXT_CHUNK", "24")
    ours = captured(make(*words))
    assert ours.model.clip.text_chunk == 24
    result = trained(ours)
    assert OpCapture.calls in (CAPTURED, [WARM_UP] * 3)  # the second, if dividing into chunks reads values
    assert_equal(result, trained(eager(make(*words))))


def test_every_batch_shape_has_a_graph(make):
    sizes = (4, 4, 2, 4, 2, 4, 4, 2, 2, 4)
    result = trained(captured(make()), sizes)
    four = [WARM_UP, WARM_UP, WARM_UP, RECORD, REPLAY, REPLAY, REPLAY]
    two = [WARM_UP, WARM_UP, WARM_UP, RECORD, REPLAY]
    assert OpCapture.calls == [*four[:2], two[0], four[2], two[1], *four[3:6], *two[2:], four[6]]
    assert_equal(result, trained(eager(make()), sizes))


def test_a_test_after_a_replay_has_new_text_features(make):
    trainer = captured(make())
    for batch in batches(trainer.model.clip, (4,) * 6):
        trainer.forward_backward(batch)
        with torch.no_grad():
            cached = trainer.model.text_features()
            trainer.model.clear_text_cache()
            assert torch.equal(trainer.model.text_features(), cached)
    assert OpCapture.calls[-1] == REPLAY


class TwoViews(CoOpCLIP):
    """Has two losses. One compares the views of an image, under dropout."""

    def losses(self, output, batch):
        image, other = (self.encode_image(view) for view in batch.views)
        same = F.cosine_similarity(F.dropout(output.text_features).mean(0)[None], image - other).mean()
        return super().losses(output, batch) | {"same": (0.5, same)}


class TrainsTwoViews(CoOp):
    method = TwoViews


def test_replays_read_all_views_and_draw_new_random_numbers(make, monkeypatch):
    def twice(clip, sizes, once=batches):
        images = zip(once(clip, sizes), once(clip, sizes)[::-1], strict=True)
        return [batch | {"img": [batch["img"], other["img"]]} for batch, other in images]

    monkeypatch.setitem(globals(), "batches", twice)
    result = trained(captured(make(TrainsTwoViews)))
    assert OpCapture.calls == CAPTURED
    assert set(result[0][0]) == {"loss", "ce", "same", "acc"}
    assert_equal(result, trained(eager(make(TrainsTwoViews))))


class Rebinds(CoOpCLIP):
    """Replaces a tensor at the end of an epoch."""

    factor = torch.tensor(1.0)

    def losses(self, output, batch):
        return {"ce": (1.0, self.factor * F.cross_entropy(output.logits, batch.labels))}

    def end_epoch(self, epoch, is_last):
        self.factor = self.factor + 1


class TrainsRebinds(CoOp):
    method = Rebinds


def test_steps_are_captured_again_if_a_method_changes_between_epochs(make):
    def results(trainer):
        trainer.max_epoch = 100
        return trained(trainer, between=lambda number: number % 2 and trainer.end_epoch())

    ours = captured(make(TrainsRebinds))
    result = results(ours)
    assert OpCapture.calls == [WARM_UP, WARM_UP, WARM_UP, RECORD, REPLAY, RECORD, REPLAY]
    assert_equal(result, results(eager(make(TrainsRebinds))))


# ---- steps that can't be captured ----


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
def test_a_known_obstacle_is_logged_once(arguments, change, reason, make, capsys):
    trainer = make(*arguments)
    if change:
        change(trainer)
    capsys.readouterr()
    trained(captured(trainer))
    assert trainer.captured is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("TRAINER.CUDA_GRAPH: training without CUDA graphs, because ")
    assert reason in line


def test_anomaly_detection_is_an_obstacle(make, capsys):
    trainer = make()
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
def test_a_step_that_cant_be_captured_continues_eagerly(trainer, capture, calls, reason, make, monkeypatch, capsys):
    expected = trained(eager(make(trainer)))
    monkeypatch.setitem(graph.CAPTURES, "cpu", capture)
    ours = captured(make(trainer))
    capsys.readouterr()
    result = trained(ours)
    assert OpCapture.calls == calls
    assert_equal(result, expected)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"TRAINER.CUDA_GRAPH: training goes on without CUDA graphs, because {reason}")


def test_a_loss_of_nan_stops_training(make):
    trainer = captured(make())
    images = trained(trainer, (4,) * 4)[0] and batches(trainer.model.clip, (4,))[0]
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        trainer.forward_backward(images | {"img": images["img"] * torch.nan})


# ---- runs ----

RUN = ("TRAINER.CUDA_GRAPH", True, "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 1)


def test_a_resumed_run_with_graphs_ends_with_the_same_bits(run, tmp_path):
    """The whole run replays its last steps; the resumed run warms up and captures again."""
    assert run(*RUN, trainer="CoOp", output=tmp_path / "whole")[0] == 0
    assert OpCapture.calls == [*[WARM_UP] * 3, RECORD, *[REPLAY] * 5]
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut/result.json").unlink()
    (tmp_path / "cut/prompt_learner/checkpoint").write_text("model.pth.tar-2\n")
    code, out, err = run(*RUN, trainer="CoOp", output=tmp_path / "cut")
    assert (code, "will resume training" in out) == (0, True), err
    assert OpCapture.calls == [*[WARM_UP] * 3, RECORD, REPLAY]
    last = [load_checkpoint(tmp_path / folder / "prompt_learner/model.pth.tar-4") for folder in ("whole", "cut")]
    assert_equal(last[0]["optimizer"], last[1]["optimizer"])
    assert_equal(last[0]["state_dict"], last[1]["state_dict"])
    whole, cut = ((tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("whole", "cut"))
    assert [json.loads(line) for line in whole] == [json.loads(line) for line in cut]
    code, out, err = run(*RUN, "TRAINER.CUDA_GRAPH", False, trainer="CoOp", output=tmp_path / "cut")
    assert (code, "Finished already" in out) == (0, True), err  # with and without graphs, it is the same run


def test_a_cpu_trains_without_graphs_and_says_so(run, monkeypatch):
    monkeypatch.delitem(graph.CAPTURES, "cpu")
    code, out, err = run("TRAINER.CUDA_GRAPH", True, trainer="CoOp")
    assert (code, out.count("TRAINER.CUDA_GRAPH: training without CUDA graphs")) == (0, 1), err


def test_a_plugin_with_a_teacher_and_an_average_is_captured(run, monkeypatch):
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", dict(TRAINER_REGISTRY._objects))
    sys.modules.pop("plugins.taught_prompt", None)
    importlib.import_module("plugins.taught_prompt")
    code, _, err = run(*RUN, trainer="TaughtPrompt")
    assert code == 0, err
    assert OpCapture.calls == [*[WARM_UP] * 3, RECORD, REPLAY, *[RECORD, REPLAY, REPLAY] * 2]
