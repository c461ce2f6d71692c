"""What the tests of TRAINER.CUDA_GRAPH share: trainers on batches of noise, and captured or eager steps.

`OpCapture` replaces CUDA graphs. It replays recorded operations without Python code, so the tests fail if a replay uses
an old number or tensor.
"""

import synthetic
import torch
from conftest import depth_words
from recorded_ops import OpCapture

from clip.model import from_state_dict
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import fused
from trainers.common import graph

WARM_UP, RECORD, REPLAY = "warm up", "record", "replay"
CAPTURED = [*[WARM_UP] * graph.WARM_UP_STEPS, RECORD, REPLAY, REPLAY]  # the calls for five batches


def count_cpu_as_gpu(monkeypatch):
    """The CPU counts as a GPU: it has the fused step, and `OpCapture` for CUDA graphs."""
    monkeypatch.setattr(fused, "FUSED_DEVICES", ("cpu",))
    monkeypatch.setitem(graph.CAPTURES, "cpu", OpCapture)


def maker(tiny_weights, monkeypatch):
    """Return make(trainer, *words) -> a trainer for batches of noise. `trainer` is a name or a subclass of CoOp."""

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
