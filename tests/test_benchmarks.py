"""The benchmarks: their baseline computes the same as our towers, and each prints its figures."""

import json

import measure
import pytest
import torch
from conftest import depth_words
from naive_towers import assert_same, features_and_gradients

from clip.blocks import ResidualAttentionBlock


@pytest.mark.parametrize("trainer", measure.trainer_names())
def test_the_naive_baseline_computes_the_same(trainer, tiny_clip, monkeypatch):
    """The baseline computes over 77 positions, and the method is fast again afterwards."""
    torch.manual_seed(0)
    words = ["TRAINER.CLIPLORA.DROPOUT", "0.0"] if trainer == "CLIPLoRA" else []  # with dropout, two passes differ
    method = measure.build_method(trainer, tiny_clip, 5, [*depth_words(trainer, 2), *words])
    images, learnable = measure.images(tiny_clip, 3), list(method.parameters())
    lengths: list[int] = []
    forward = ResidualAttentionBlock.forward

    def noted(block, x, **adapter):
        lengths.append(len(x))
        return forward(block, x, **adapter)

    monkeypatch.setattr(ResidualAttentionBlock, "forward", noted)

    def outcome():
        if learnable:
            return features_and_gradients(lambda: method(images), learnable)
        with torch.no_grad():
            return [method(images)]

    fast = outcome()
    assert not lengths  # the fast path doesn't call the blocks' forward
    with measure.naive(method):
        slow = outcome()
    prompts = method.image_inputs().prompts
    image_tokens = 4 + 1 + (len(prompts[0]) if prompts else 0)
    n_inserted = method.image_inputs().n_inserted
    expected = {image_tokens, image_tokens + n_inserted}
    if trainer not in ("LinearProbe", "TaskRes"):  # these encode no text in a step
        expected |= {77, 77 + n_inserted}
    assert set(lengths) == expected
    assert_same(fast, slow)
    lengths.clear()
    assert torch.equal(outcome()[0], fast[0])
    assert not lengths


@pytest.fixture
def tiny_backbone(tiny_clip, monkeypatch):
    """Arguments for a benchmark on the tiny CLIP."""
    monkeypatch.setitem(measure.SIZES, "tiny", tiny_clip.sizes)
    return ["--backbone", "tiny", "TRAINER.MAPLE.PROMPT_DEPTH", "2"]


@pytest.mark.parametrize("name", ["step_time", "test_time"])
def test_the_last_line_has_the_figures(name, tiny_backbone, capsys):
    module = __import__(name)
    words = ["--classes", "3", "--batch", "1", "--repeats", "1", "--baseline", "naive", *tiny_backbone]
    words += ["--images", "2", "--spread", "20"] if name == "test_time" else []
    assert module.main(words) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    keys = ["seconds", "baseline_seconds", "ratio", "peak_bytes", "needed_flops", "peak_flops", "share"]
    assert list(line) == keys
    assert line["seconds"] > 0
    assert line["needed_flops"] > 1e7
    assert line["ratio"] == pytest.approx(line["baseline_seconds"] / line["seconds"])
    assert 0 < line["share"] < 1.2


def test_a_step_beside_another_trainer_s(tiny_backbone, capsys):
    import step_time

    words = ["--trainer", "KgCoOp", "--classes", "3", "--batch", "1", "--repeats", "1", "--baseline", "CoOp"]
    assert step_time.main([*words, *tiny_backbone]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["ratio"] == pytest.approx(line["baseline_seconds"] / line["seconds"])


@pytest.mark.slow
@pytest.mark.parametrize(("trainer", "baseline"), [("MaPLe", "naive"), ("CoOp", "first")])
def test_the_end_to_end_benchmark(trainer, baseline, tiny_backbone, capsys):
    import end_to_end

    words = ["--trainer", trainer, "--baseline", baseline, "--classes", "4", "--batch", "2", *tiny_backbone]
    assert end_to_end.main([*words, "--shots", "1", "--test", "1"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["ratio"] == pytest.approx(line["baseline_seconds"] / line["seconds"])


def test_launches_of_a_step_of_maple(capsys):
    """With ViT-B/16's layers, and the same number of launches for any number of classes."""
    import launches

    assert launches.main(["--trainer", "MaPLe", "--classes", "10", "100"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["launches"]["MaPLe"]
    assert found["10"] == found["100"]
    assert found["10"]["step"] < 800 < found["10"]["naive"]
    assert found["10"]["evaluation"] < 170


@pytest.mark.slow
def test_the_memory_benchmark(tiny_backbone, capsys):
    import memory

    assert memory.main(["--classes", "3", "--batch", "1", "--way", "fast", *tiny_backbone]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {"seconds", "peak_bytes", "needed_flops", "peak_flops"}  # of a process of its own
    assert min(found["seconds"], found["needed_flops"], found["peak_flops"]) > 0
