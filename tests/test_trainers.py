"""One matrix over all trainers: what learns, what is saved, other class names, precisions, widths, backbones."""

import pytest
import torch
from conftest import depth_words, node_of, relative, result_of
from small_clip import state_dict
from tiny_methods import NAMES, TRAINERS, config, each_trainer, loss, make

from clip.model import convert_weights, from_state_dict
from dassl.config import merge_file
from dassl.utils import InputError
from experiments.config import default_config_file
from trainers.common.checkpoint import learned_tensors


@each_trainer
def test_only_the_declared_parameters_learn(trainer, tiny_clip):
    model = make(trainer, tiny_clip)
    for p in model.parameters():  # of two factors, one starts at zero, so the other one would have no gradient
        if not p.any():
            torch.nn.init.normal_(p, std=0.02)
    frozen = {name: p.clone() for name, p in tiny_clip.named_parameters()}
    learnable = {name: p.detach().clone() for name, p in model.named_parameters()}
    if not learnable:
        assert not TRAINERS[trainer].checkpoints or model.sized_by_data
        return
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss(model, torch.randn(4, 3, 32, 32), torch.arange(4)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, f"{name} has no gradient"
        assert p.grad.abs().max() > 0, f"{name} has no gradient"
    assert all(p.grad is None for p in tiny_clip.parameters())
    optimizer.step()
    assert all(not torch.equal(p, learnable[name]) for name, p in model.named_parameters())
    assert all(torch.equal(p, frozen[name]) for name, p in tiny_clip.named_parameters())


@each_trainer
def test_text_features_are_made_once_a_test_and_never_stale(trainer, tiny_clip):
    model = make(trainer, tiny_clip).eval()
    calls = []
    encode = tiny_clip.encode_prompts
    tiny_clip.encode_prompts = lambda *args: calls.append(1) or encode(*args)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        first = model(images)
        assert torch.equal(model(images), first)
    once = len(calls)
    for p in model.parameters():
        with torch.no_grad():
            p.add_(0.1)
    with torch.no_grad():
        changed = model(images)
    if list(model.parameters()):
        assert not torch.equal(changed, first)
    if not model.text_depends_on_image:
        assert len(calls) == (2 * once if model.text_is_learned else once)


@each_trainer
def test_trains_saves_and_tests_on_other_names(trainer, run, tmp_path):
    code, _, err = run("DATASET.SUBSAMPLE_CLASSES", "base", trainer=trainer)
    assert (code, err.count("error")) == (0, 0), err
    base = result_of(tmp_path / "out")
    assert set(base["per_class"]) == {"blue", "green thing"}
    assert base["trainer"] == trainer
    words = ["--eval-only", "DATASET.SUBSAMPLE_CLASSES", "new", "TEST.SAVE_PREDICTIONS", "True"]
    if TRAINERS[trainer].checkpoints:
        words += ["--model-dir", tmp_path / "out"]
        if trainer == "LinearProbe":  # a classifier of certain classes
            code, _, err = run(*words, trainer=trainer, output=tmp_path / "new")
            assert (code, "other classes" in err) == (2, True)
            return
        folders = [folder for folder in TRAINERS[trainer].checkpoints if (tmp_path / "out" / folder).is_dir()]
        assert folders
        for folder in folders:
            saved = torch.load(tmp_path / "out" / folder / "model.pth.tar-1", weights_only=True)["state_dict"]
            assert sum(p.numel() for p in saved.values()) < 1_000_000  # prompts only
    code, _, err = run(*words, trainer=trainer, output=tmp_path / "new")
    assert code == 0, err
    assert set(result_of(tmp_path / "new")["per_class"]) == {"grey", "red_thing"}


@each_trainer
def test_a_saved_model_gives_the_same_bits(trainer, tiny_clip, tiny_weights, tmp_path):
    model, images = make(trainer, tiny_clip).eval(), torch.randn(3, 3, 32, 32)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "saved.pt")
    other = make(trainer, from_state_dict(tiny_weights)).eval()
    checkpoint = torch.load(tmp_path / "saved.pt", weights_only=True)
    other.load_state_dict(learned_tensors(checkpoint, other, other, tmp_path / "saved.pt"))
    with torch.no_grad():
        assert torch.equal(other(images), model(images))


@each_trainer
def test_bf16_is_near_fp32_and_prompts_stay_float32(trainer, tiny_weights):
    logits = []
    images = torch.randn(2, 3, 32, 32)
    for dtype in (torch.float32, torch.bfloat16):
        clip_model = from_state_dict(tiny_weights)
        convert_weights(clip_model, dtype)
        model = make(trainer, clip_model)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        output = model(images)
        assert output.dtype == torch.float32
        if list(model.parameters()):
            output.sum().backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        logits.append(output.detach())
    assert relative(logits[1], logits[0]) < 0.1


@each_trainer
def test_bf16_trains_on_the_cpu(trainer, run, tmp_path):
    code, _, err = run(f"TRAINER.{node_of(trainer)}.PREC", "bf16", trainer=trainer)
    assert code == 0, err
    assert result_of(tmp_path / "out")["n_total"] > 0


@each_trainer
def test_fp16_says_that_it_is_fp32_on_a_cpu(trainer, run):
    code, out, err = run(f"TRAINER.{node_of(trainer)}.PREC", "fp16", "--no-train", trainer=trainer)
    assert code == 0, err
    if not torch.cuda.is_available():
        assert "PREC fp16 isn't supported on the CPU: computing in fp32" in out
    code, _, err = run(f"TRAINER.{node_of(trainer)}.PREC", "fp8", trainer=trainer)
    assert code == 2
    assert "bf16" in err


@each_trainer
def test_a_resnet_works_or_is_refused_before_any_image(trainer, resnet_weights):
    clip_model = from_state_dict(resnet_weights)
    try:
        model = make(trainer, clip_model)
    except InputError as error:
        told = str(error)
    else:
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, len(NAMES))
        return
    assert "ResNet" in told


@each_trainer
def test_large_shapes(trainer):
    """ViT-L/14's widths and heads, in two layers."""
    large = {"embed_dim": 768, "image_resolution": 28, "vision_width": 1024, "vision_patch_size": 14}
    large |= {"vision_layers": 2, "transformer_width": 768, "transformer_heads": 12, "transformer_layers": 2}
    model = make(trainer, from_state_dict(state_dict(**large)), *depth_words(trainer, 2))
    assert model(torch.randn(2, 3, 28, 28)).shape == (2, len(NAMES))


@each_trainer
def test_one_class(trainer, tiny_clip):
    assert make(trainer, tiny_clip, names=["only"])(torch.randn(2, 3, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize("trainer", [name for name in TRAINERS if name != "LinearProbe"])
def test_a_name_that_is_too_long_is_told(trainer, tiny_clip):
    with pytest.raises(InputError, match="too long"):
        make(trainer, tiny_clip, names=["fine", "long " * 90])


@each_trainer
def test_its_default_configs_resolve(trainer):
    kind = TRAINERS[trainer]
    for protocol in ("base2new", "few_shot", "cross_dataset"):
        path = default_config_file(kind, protocol)
        cfg = config(trainer)
        merge_file(cfg, path)
        assert cfg.MODEL.BACKBONE.NAME
        assert cfg.INPUT.INTERPOLATION == "bicubic"
