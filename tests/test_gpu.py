"""What must hold on a CUDA GPU. Tests with the marker `gpu` need one; each test also has a case for the CPU.

The CPU's cases make sure that the tests themselves work. Run the others with `pytest -m gpu`.
"""

import itertools
import json
import math
import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import synthetic
import torch
from conftest import depth_words, node_of, relative
from recorded_ops import OpCapture, Waits
from tiny_methods import TRAINERS, loss, make

from clip.model import from_state_dict
from dassl.optim import fused
from dassl.utils import load_checkpoint, set_deterministic
from trainers.common import graph
from trainers.common.options import PRECISIONS

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, before the first test
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
LEARNING = [name for name, cls in TRAINERS.items() if cls.checkpoints and cls.method.has_loop]
#: Largest difference of logits or losses from fp32, or between two ways to compute the same, relative to the largest.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "amp": 2e-2, "bf16": 0.1}


def cases(names, on_gpu, on_cpu):
    """Parametrise a test: the arguments `names` and `device`. Cases on the GPU have the marker."""
    gpu = [pytest.param(*case, "cuda", marks=NEEDS_GPU) for case in on_gpu]
    return pytest.mark.parametrize((*names, "device"), [*gpu, *((*case, "cpu") for case in on_cpu)])


def build(trainer, precision, device, weights, *words):
    """A trainer for batches of noise, on the device, with the tiny CLIP."""
    words = ("USE_CUDA", str(device == "cuda"), *depth_words(trainer, 2), *words)
    made = synthetic.build_trainer(trainer, from_state_dict(weights), 5, precision, words)
    assert made.device.type == device
    return made


def steps(trainer, count):
    """The losses of training steps on different batches."""
    batches = (synthetic.batch_of(trainer.model.clip, 4, 5, seed) for seed in range(count))
    return [trainer.forward_backward(batch)["loss"] for batch in batches]


def logits_of(folder):
    with np.load(folder / "predictions.npz") as saved:
        return torch.tensor(saved["logits"])


def words_for(trainer, precision, device, *more):
    """Arguments of a run with two steps in each epoch."""
    words = ["USE_CUDA", device == "cuda", f"TRAINER.{node_of(trainer)}.PREC", precision, *more]
    return [*words, "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "TEST.SAVE_PREDICTIONS", True]


# ---- runs ----


@cases(["trainer", "precision"], itertools.product(TRAINERS, PRECISIONS), [("CoOp", "bf16")])
def test_trains_two_steps_tests_saves_and_loads(trainer, precision, device, run, tmp_path):
    code, out, err = run(*words_for(trainer, precision, device), trainer=trainer)
    assert code == 0, err
    assert "computing in fp32" not in out
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == (2 if trainer in LEARNING else 0)
    assert all(math.isfinite(line["loss"]) for line in lines)
    logits = logits_of(tmp_path / "out")
    assert logits.isfinite().all()
    if TRAINERS[trainer].checkpoints:
        words = ("--eval-only", "--model-dir", tmp_path / "out")
        code, _, err = run(*words, *words_for(trainer, precision, device), trainer=trainer, output=tmp_path / "test")
        assert code == 0, err
        assert relative(logits_of(tmp_path / "test"), logits) < TOLERANCE[precision]


@cases(["precision"], [("fp16",)], [("fp32",)])
def test_prompts_are_tested_on_a_machine_without_gpu(precision, device, run, tmp_path):
    assert run(*words_for("MaPLe", precision, device))[0] == 0
    words = ("--eval-only", "--model-dir", tmp_path / "out", *words_for("MaPLe", precision, "cpu"))
    code, _, err = run(*words, output=tmp_path / "test")
    assert code == 0, err
    assert relative(logits_of(tmp_path / "test"), logits_of(tmp_path / "out")) < TOLERANCE[precision]


@cases(["precision", "graphs"], itertools.product(PRECISIONS, (False, True)), [("bf16", False)])
def test_a_deterministic_run_repeats_and_resumes_to_the_bit(precision, graphs, device, run, tmp_path):
    """Also with CUDA graphs, although the resumed run warms up again; and with the loss scale of amp."""
    words = words_for("MaPLe", precision, device, "DETERMINISTIC", True, "TRAINER.CUDA_GRAPH", graphs)
    words += ["OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 1]
    prompts = "MultiModalPromptLearner"
    for folder in ("first", "second"):
        code, out, err = run(*words, output=tmp_path / folder)
        assert code == 0, err
        assert "without CUDA graphs" not in out
    shutil.copytree(tmp_path / "first", tmp_path / "resumed")
    (tmp_path / "resumed/result.json").unlink()
    (tmp_path / "resumed" / prompts / "checkpoint").write_text("model.pth.tar-2\n")
    code, out, err = run(*words, output=tmp_path / "resumed")
    assert (code, "will resume training" in out) == (0, True), err
    first, *others = (
        load_checkpoint(tmp_path / folder / prompts / "model.pth.tar-4") for folder in ("first", "second", "resumed")
    )
    assert ("scaler" in first) == (precision == "amp")
    for other in others:
        for key in ("state_dict", "optimizer", *(["scaler"] if precision == "amp" else [])):
            torch.testing.assert_close(other[key], first[key], rtol=0, atol=0)


# ---- steps ----


@pytest.fixture
def deterministic():
    """torch uses deterministic algorithms during the test."""
    before = torch.are_deterministic_algorithms_enabled()
    set_deterministic(True)
    yield
    set_deterministic(before)


@cases(["trainer", "precision"], itertools.product(TRAINERS, ("fp16", "bf16", "amp")), [("MaPLe", "bf16")])
def test_half_precision_is_near_fp32(trainer, precision, device, tiny_weights):
    images, logits = synthetic.batch_of(from_state_dict(tiny_weights), 4, 5)["img"], []
    for each in ("fp32", precision):
        made = build(trainer, each, device, tiny_weights)
        made.set_model_mode("eval")
        with torch.no_grad():
            logits.append(made.model_inference(images.to(device)).cpu())
    assert 0 < relative(logits[1], logits[0]) < TOLERANCE[precision]


@cases(["trainer", "precision"], itertools.product(LEARNING, ("fp32", "fp16", "amp")), [("CoOp", "fp32")])
def test_a_cuda_graph_computes_the_same(trainer, precision, device, tiny_weights, monkeypatch, deterministic):
    if device == "cpu":
        monkeypatch.setattr(fused, "FUSED_DEVICES", ("cpu",))
        monkeypatch.setitem(graph.CAPTURES, "cpu", OpCapture)
    eager, ours = (build(trainer, precision, device, tiny_weights, "TRAINER.CUDA_GRAPH", "True") for _ in range(2))
    ours.capture_steps()
    expected = steps(eager, graph.WARM_UP_STEPS + 4)
    assert steps(ours, graph.WARM_UP_STEPS + 4) == pytest.approx(expected, rel=TOLERANCE[precision])
    assert not ours.captured.is_eager
    assert [shape.replay is not None for shape in ours.captured.shapes.values()] == [True]
    for name, tensor in ours.model.state_dict().items():
        assert relative(tensor, eager.model.state_dict()[name]) < TOLERANCE[precision]
        assert tensor.isfinite().all(), name


@contextmanager
def no_waits(device):
    """Inside, an operation that makes the CPU wait for the GPU is an error."""
    if device == "cpu":
        with Waits() as waits:
            yield
        assert not waits.place
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cases(
    ["trainer", "precision"],
    itertools.product(LEARNING, PRECISIONS),
    [(trainer, "fp32") for trainer in LEARNING],
)
def test_a_step_never_waits_for_the_gpu(trainer, precision, device, tiny_weights, monkeypatch):
    """The first step may wait, because it makes index tensors that later steps use again."""
    if device == "cpu":
        monkeypatch.setattr(fused, "FUSED_DEVICES", ("cpu",))
    made = build(trainer, precision, device, tiny_weights)
    if device == "cpu":  # as on a GPU, with amp
        made.scaler, made.model.clip.text_attention = torch.amp.GradScaler("cpu"), "padded"
    steps(made, 2)
    inputs = made.read_batch(synthetic.batch_of(made.model.clip, 4, 5))
    with no_waits(device):
        result = made.training_step(inputs)
    assert result.loss.isfinite()


@cases(["trainer"], [("CoOp",), ("MaPLe",), ("CoCoOp",), ("SoftCPT",)], [("MaPLe",)])
def test_padded_attention_is_attention_by_length(trainer, device, tiny_weights):
    """A GPU pads the sequences of the text tower by default, and a CPU doesn't."""
    images, labels = torch.randn(4, 3, 32, 32, device=device), torch.arange(4, device=device)
    gradients = []
    for attention in ("padded", "by_length"):
        clip_model = from_state_dict(tiny_weights).to(device)
        clip_model.text_attention = attention
        model = make(trainer, clip_model).to(device)
        loss(model, images, labels).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert relative(gradient, gradients[1][name]) < 1e-3, name
