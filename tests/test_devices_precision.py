"""Precisions on the pretend device: losses near fp32, half-precision products, the loss scaler, special paths."""

import dataclasses
import sys
from functools import cache, partial

import pytest
import torch
from conftest import TINY, node_of, relative
from small_clip import state_dict
from tiny_methods import TRAINERS, each_trainer, loss, make
from torch.utils._python_dispatch import TorchDispatchMode

from clip.clip import tokenize
from clip.inputs import TowerInputs
from clip.model import CLIP, from_state_dict
from dassl.utils import load_checkpoint
from trainers.common.backbone import cast_weights

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "amp": torch.float16}
aten = torch.ops.aten


class Products(TorchDispatchMode):
    """Counts the multiplications in matrix products and convolutions by dtype."""

    def __init__(self):
        super().__init__()
        self.count: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in (aten.mm.default, aten.bmm.default, aten.addmm.default):
            terms = args[-2].shape[-1]
        elif function is aten.convolution.default:
            terms = args[1][0].numel()
        else:
            return result
        self.count[result.dtype] = self.count.get(result.dtype, 0) + result.numel() * terms
        return result


@cache
def clip_on(device: torch.device, precision: str) -> CLIP:
    """The tiny CLIP, whose weights are drawn as OpenAI's are before training, so they are well conditioned."""
    clip_model = from_state_dict(state_dict(**TINY)).to(device)
    assert cast_weights(clip_model, precision, device) == precision
    return clip_model


def step(trainer: str, precision: str, device: torch.device, *words: str) -> tuple[float, torch.Tensor, Products]:
    """Loss, gradients (n,) and products of a training step. `words` are options of the trainer."""
    model = make(trainer, clip_on(device, precision), *words).to(device).train()
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32).to(device), torch.arange(4).to(device)
    loss(model, images, labels)  # the first step also computes what doesn't change, such as a teacher's text features
    torch.manual_seed(1)
    with Products() as products, torch.autocast(device.type, enabled=precision == "amp"):
        value = loss(model, images, labels)
    parameters = list(model.parameters())
    if parameters:
        value.backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in parameters)
    assert value.dtype == torch.float32
    gradients = [p.grad.cpu().flatten() for p in parameters if p.grad is not None]
    return value.item(), torch.cat([torch.zeros(1), *gradients]), products


@each_trainer
def test_a_step_computes_in_half_precision_and_agrees_with_fp32(trainer, pretend):
    expected, expected_grad, _ = step(trainer, "fp32", pretend)
    for precision, dtype in DTYPES.items():
        value, grad, products = step(trainer, precision, pretend)
        eps = torch.finfo(dtype).eps
        assert abs(value - expected) < 4 * eps * expected, precision
        assert (grad - expected_grad).norm() <= 16 * eps * expected_grad.norm(), precision
        assert products.count[dtype] > 0.9 * sum(products.count.values()), precision


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("cached", [True, False])
def test_tests_compute_in_half_precision(cached, precision, run, pretend, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Products() as products:
        words = ("TRAINER.ZEROSHOTCLIP.PREC", precision, "TEST.CACHE_FEATURES", cached)
        code, _, err = run(*words, trainer="ZeroshotCLIP")
    assert code == 0, err
    assert products.count[DTYPES[precision]] > 0.9 * sum(products.count.values())


def all_options(trainer: str, position: str) -> list:
    """Config words that switch every flag and share of a trainer on, and set positions within the prompt."""
    words = []
    for field in dataclasses.fields(TRAINERS[trainer].options):
        value = {"bool": True, "float": 0.5}.get(type(field.default).__name__)
        value = position if field.name == "CLASS_TOKEN_POSITION" else value
        words += [] if value is None else [f"TRAINER.{node_of(trainer)}.{field.name}", str(value)]
    return words


@pytest.mark.parametrize(
    ("trainer", "position"),
    [(name, "end") for name in TRAINERS]
    + [(name, "middle") for name in TRAINERS if all_options(name, "end") != all_options(name, "middle")],
)
def test_every_option_works_on_the_device(trainer, position, pretend):
    cpu = torch.device("cpu")
    expected, value, half = (
        step(trainer, precision, device, *all_options(trainer, position))[0]
        for precision, device in (("fp32", cpu), ("fp32", pretend), ("fp16", pretend))
    )
    assert value == pytest.approx(expected, rel=1e-4)
    assert half == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("trainer", "precision"), [("MaPLe", "amp"), ("CoCoOp", "fp16")])
def test_chunks_of_the_text_tower_give_the_same_gradients(trainer, precision, pretend, monkeypatch):
    whole, whole_grad, _ = step(trainer, precision, pretend)
    monkeypatch.setattr(clip_on(pretend, precision), "text_chunk", 32)
    value, grad, _ = step(trainer, precision, pretend)
    assert value == pytest.approx(whole, rel=1e-2)
    assert relative(grad, whole_grad) < 1e-2


@pytest.mark.parametrize(("trainer", "precision"), [("MaPLe", "amp"), ("CoOp", "fp16"), ("VPT", "bf16")])
def test_hooked_towers_compute_the_same_on_the_device(trainer, precision, pretend):
    plain, plain_grad, _ = step(trainer, precision, pretend)
    clip_model = clip_on(pretend, precision)
    blocks = [clip_model.transformer.resblocks[0], clip_model.vision_transformer.transformer.resblocks[0]]
    hooks = [block.register_forward_hook(lambda *_: None) for block in blocks]  # the towers' reference path
    try:
        value, grad, _ = step(trainer, precision, pretend)
    finally:
        for hook in hooks:
            hook.remove()
    eps = torch.finfo(DTYPES[precision]).eps
    assert value == pytest.approx(plain, rel=4 * eps)
    assert (grad - plain_grad).norm() <= 16 * eps * plain_grad.norm()


def test_towers_take_prompts_of_each_text_and_inserted_tokens_on_the_device(pretend):
    ids = tokenize(["a cat", "one brown dog"])
    torch.manual_seed(0)
    text, image = TINY["transformer_width"], TINY["vision_width"]
    by_text, shared, inserted, images = (torch.randn(*s) for s in ((2, 1, text), (2, text), (1, image), (2, 3, 32, 32)))
    found = []
    for device in (torch.device("cpu"), pretend):
        clip_model = clip_on(device, "fp32")
        inputs = TowerInputs({1: by_text.to(device)})
        found.append([clip_model.encode_text(ids.to(device), inputs)])
        found[-1].append(clip_model.encode_text(ids.to(device), TowerInputs({0: shared.to(device)})))
        inputs = TowerInputs(inserted={1: inserted.to(device)})
        found[-1] += clip_model.encode_image_rows(images.to(device), inputs, "inserted")
    for on_cpu, on_device in zip(*found, strict=True):
        assert relative(on_device.cpu(), on_cpu) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", *DTYPES])
def test_a_resnet_on_the_device(precision, pretend, resnet_weights):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = make("CoOp", from_state_dict(resnet_weights))(images)
        clip_model = from_state_dict(resnet_weights).to(pretend)
        cast_weights(clip_model, precision, pretend)
        model = make("CoOp", clip_model).to(pretend)
        with torch.autocast(pretend.type, enabled=precision == "amp"):
            logits = model(images.to(pretend)).cpu()
    assert relative(logits, expected) < 0.05


@pytest.mark.parametrize("words", [("MaPLe",), ("SoftCPT", "TRAINER.SOFTCPT.LEGACY_STEPS", True)])
def test_amp_skips_a_step_with_infinite_gradients(words, run, pretend, tmp_path, monkeypatch):
    """The first of two steps overflows. The scaler skips it, and all extra steps, and lowers the scale to 1."""
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**100, backoff_factor=2.0**-100)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    trainer, *options = words
    options += [f"TRAINER.{node_of(trainer)}.PREC", "amp", "DATALOADER.TRAIN_X.BATCH_SIZE", 4]
    code, out, err = run(*options, trainer=trainer)
    assert code == 0, err
    assert "batch [2/2]" in out
    for folder in TRAINERS[trainer].checkpoints:
        for file in (tmp_path / "out" / folder).glob("model*"):
            checkpoint = load_checkpoint(file)
            assert (checkpoint["scaler"]["scale"], checkpoint["scaler"]["_growth_tracker"]) == (1.0, 1)
            assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_compiled_blocks_get_tensors_of_the_device(run, pretend, monkeypatch):
    """`torch.compile` can't trace the pretend device, so a function that checks its arguments stands in for it.

    `test_feature_cache.py` compiles on the CPU.
    """
    devices = []

    def compile(function, dynamic):
        return lambda *args: devices.extend(tensor.device.type for tensor in args) or function(*args)

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setenv("CXX", sys.executable)  # any program: nothing is compiled
    code, _, err = run("TRAINER.COMPILE", True)
    assert code == 0, err
    assert set(devices) == {"pretend"}
