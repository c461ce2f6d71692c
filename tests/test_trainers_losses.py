"""Methods with further losses and teachers: the checks that need no data, beside the golden values.

KgCoOp, ProGrad, PromptSRC, TCP and CoPrompt. test_trainers_losses_runs.py has their configs and runs.
"""

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import TINY, relative
from measure import SIZES
from tiny_methods import TRAINERS, build, config, make

from clip.loading import load_clip
from clip.model import CLIP
from dassl.utils import InputError, count_num_param
from trainers.base import Batch, frozen_text_features, total
from trainers.prograd import without_conflict
from trainers.promptsrc import GaussianAverage, PromptSRCCLIP

NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)
LABELS = torch.arange(4)


def batch_of(*, views: int = 1) -> Batch:
    """Noise, in one or several views."""
    generator = torch.Generator().manual_seed(0)
    made = tuple(torch.randn(4, 3, 32, 32, generator=generator) for _ in range(views))
    return Batch(made[0], LABELS, made)


def losses_of(method, batch):
    return method.losses(method.outputs(batch), batch)


@pytest.mark.parametrize(
    ("trainer", "count", "words", "layers"),
    [
        ("KgCoOp", 2_048, ("CTX_INIT", True), 2),
        ("ProGrad", 8_192, ("CTX_INIT", True), 2),
        ("TCP", 331_904, ("DEPTH", 2), 2),
        ("PromptSRC", 46_080, (), 12),
        ("CoPrompt", 3_817_216, ("N_CTX", 2, "PROMPT_DEPTH", 9), 12),
        ("CoPrompt", 5_014_528, ("N_CTX", 4, "PROMPT_DEPTH", 12), 12),
    ],
)
def test_the_number_of_parameters_is_the_papers(trainer, count, words, layers):
    """With ViT-B/16's widths. The weights of the CLIP are left undefined, which is fast."""
    with torch.device("meta"):
        clip = CLIP(replace(SIZES["vit_b16"], transformer_layers=layers, vision_layers=layers))
    clip = clip.to_empty(device="cpu").requires_grad_(False)
    cfg = config(trainer)
    node = cfg.TRAINER["CoPrompt" if trainer == "CoPrompt" else trainer.upper()]
    defaults = {"PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9} if trainer == "PromptSRC" else {}
    node.update(defaults | dict(zip(words[::2], words[1::2], strict=True)))
    assert count_num_param(build(trainer, cfg, clip, ["cat"])) == count


def test_kgcoop_starts_at_the_distance_of_two_templates(tiny_clip):
    words = ("TRAINER.KGCOOP.CTX_INIT", True)
    method = make("KgCoOp", tiny_clip, *words)
    assert losses_of(method, batch_of())["kg"][1].item() == pytest.approx(0, abs=1e-6)
    other = type(method)(method.options, tiny_clip, method.classnames, "a {} texture.")
    features = [
        frozen_text_features(tiny_clip, [text], method.classnames) for text in ("a photo of a {}.", "a {} texture.")
    ]
    expected = 1 - torch.cosine_similarity(*features).mean()
    assert losses_of(other, batch_of())["kg"][1].item() == pytest.approx(expected.item(), rel=1e-4)


def test_promptsrc_starts_at_the_distance_of_a_template_and_the_ensemble(tiny_clip):
    """With the words as the only prompts. Without image prompts, image features and logits are the frozen ones too."""
    node = "TRAINER.PROMPTSRC"
    method = make("PromptSRC", tiny_clip, f"{node}.PROMPT_DEPTH_TEXT", 1, f"{node}.PROMPT_DEPTH_VISION", 0)
    losses = losses_of(method, batch_of())
    words = frozen_text_features(tiny_clip, ["a photo of a {}."], method.classnames)
    assert losses["text"][1].item() == pytest.approx((words - method.teacher).abs().mean().item(), rel=1e-4)
    assert losses["image"][1].item() == 0


@pytest.mark.parametrize(
    ("trainer", "words", "expected"),
    [("KgCoOp", ("TRAINER.KGCOOP.CTX_INIT", True), 5.354e-4), ("PromptSRC", (), 2.6854e-3)],
)
def test_the_text_terms_at_the_start_are_fixed_numbers_on_the_mini_weights(trainer, words, expected):
    """Of the weights in this repository, so that a change of the towers or of the teachers is noticed."""
    clip = load_clip("ViT-Mini/8")
    depth = ("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", 1, "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", 0)
    cfg = config(trainer, *words, *(depth if trainer == "PromptSRC" else ()))
    method = TRAINERS[trainer].build_method(cfg, clip, ["red apple", "green salad"], "a drawing of the {}.")
    images = torch.zeros(2, 3, 48, 48)
    losses = losses_of(method, Batch(images, torch.arange(2), (images,)))
    assert losses["kg" if trainer == "KgCoOp" else "text"][1].item() == pytest.approx(expected, rel=1e-3)


def test_a_teacher_is_not_computed_in_half_precision_under_autocast(tiny_clip):
    expected = frozen_text_features(tiny_clip, ["a {}."], ["cat", "dog"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frozen_text_features(tiny_clip, ["a {}."], ["cat", "dog"]), expected)


# ---- ProGrad ----


def test_a_conflicting_part_is_removed():
    torch.manual_seed(0)
    general = torch.randn(3, 5)
    gradient = torch.randn(3, 5) - 2 * general
    cleaned = without_conflict(gradient, general, 1.0)
    assert (cleaned * general).sum().item() == pytest.approx(0, abs=1e-4)
    half = without_conflict(gradient, general, 0.5)
    assert relative(half, (gradient + cleaned) / 2) < 1e-6
    assert torch.equal(without_conflict(gradient, -general, 1.0), gradient)
    assert torch.equal(without_conflict(gradient, torch.zeros(3, 5), 1.0), gradient)


@pytest.mark.parametrize("chunk", [0, 8])
def test_prograd_cleans_the_gradient_of_each_parameter(chunk, tiny_clip):
    """Also if the text features are computed in chunks, and under a loss scale, which scales the gradient."""
    tiny_clip.text_chunk = chunk
    method, batch = make("ProGrad", tiny_clip, "TRAINER.PROGRAD.CTX_INIT", True), batch_of()
    parameter = method.prompt_learner.ctx
    losses = losses_of(method, batch)
    ce, kl = (torch.autograd.grad(losses[name][1], parameter, retain_graph=True)[0] for name in ("ce", "kl"))
    method.backward(losses, NO_SCALER)
    assert relative(parameter.grad, without_conflict(ce, kl, 1.0)) < 1e-5
    plain = parameter.grad.clone()
    method.backward(losses_of(method, batch), torch.amp.GradScaler("cpu", init_scale=8.0))
    assert relative(parameter.grad, 8 * plain) < 1e-5


@pytest.mark.parametrize("template", ["{} texture.", "one two three four five six {}."])
def test_a_template_that_gives_no_context_is_refused(template, tiny_clip):
    method = make("ProGrad", tiny_clip, "TRAINER.PROGRAD.CTX_INIT", True)
    with pytest.raises(InputError, match="ProGrad needs 1 to N_CTX"):
        type(method)(replace(method.options, N_CTX=5), tiny_clip, ["cat"], template)


# ---- PromptSRC ----


def test_the_weights_of_the_epochs():
    average = GaussianAverage(15, 1)
    for epoch, unit in enumerate(torch.eye(20)):
        average.add(epoch, {"unit": unit})
    weights = average.tensors["unit"]
    assert weights.sum().item() == pytest.approx(1)
    assert weights[14].item() == pytest.approx(0.3989, abs=1e-4)
    assert 1 / (weights**2).sum().item() == pytest.approx(3.5, abs=0.1)  # the effective number of epochs


@pytest.mark.parametrize(("mean", "std"), [(15, 1), (1000, 0.5), (-300, 1)])
def test_the_average_of_equal_prompts_is_the_prompts(mean, std):
    """Also if the weights themselves would underflow."""
    average, prompts = GaussianAverage(mean, std), torch.randn(4, 8)
    for epoch in range(5):
        average.add(epoch, {"ctx": prompts})
    assert torch.equal(average.tensors["ctx"], prompts)
    assert math.isfinite(average.log_total)


def test_a_gaussian_without_width_is_refused(tiny_clip):
    with pytest.raises(InputError, match="GPA_STD is 0"):
        make("PromptSRC", tiny_clip, "TRAINER.PROMPTSRC.GPA_STD", 0)


def test_without_image_prompts_the_image_loss_is_zero(tiny_clip, monkeypatch):
    method = make("PromptSRC", tiny_clip, "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", 0)
    encoded = []
    encode = tiny_clip.encode_image
    monkeypatch.setattr(tiny_clip, "encode_image", lambda *args: encoded.append(1) or encode(*args))
    losses = losses_of(method, batch_of())
    assert losses["image"][1].item() == 0
    assert len(encoded) == 1  # the teacher's features are the method's
    total(losses).backward()


def test_the_teacher_is_made_once_and_not_for_a_test(tiny_clip, monkeypatch):
    method = make("PromptSRC", tiny_clip).eval()
    with torch.no_grad():
        method(batch_of().images)
    assert "teacher" not in vars(method)
    losses_of(method, batch_of())
    first = method.teacher
    losses_of(method, batch_of())
    assert method.teacher is first
    assert isinstance(method, PromptSRCCLIP)


# ---- TCP ----


def test_class_prompts_replace_positions_1_to_4_of_one_layer(tiny_clip):
    """Hooks see the plain path: the input of the layer differs from the output of the layer before in 4 positions."""
    method = make("TCP", tiny_clip, "TRAINER.TCP.DEPTH", 2)
    seen = {}
    first, second = tiny_clip.transformer.resblocks[:2]
    first.register_forward_hook(lambda module, args, output: seen.update(before=output))
    second.register_forward_pre_hook(lambda module, args: seen.update(after=args[0]))
    with torch.no_grad():
        method.encode_text()
    before, after = seen["before"].transpose(0, 1), seen["after"].transpose(0, 1)  # (n_classes, length, width)
    prompts = method.prompt_learner(method.teacher)  # (n_classes, 4, width)
    assert torch.equal(after[:, 1:5], prompts)
    assert torch.equal(after[:, :1], before[:, :1])
    assert torch.equal(after[:, 5:], before[:, 5:])


def test_tcp_needs_a_layer_before_the_class_prompts(tiny_clip):
    for depth, message in ((1, "at least one layer before"), (TINY["transformer_layers"] + 1, "layers 1 to 3")):
        cfg = config("TCP")
        cfg.TRAINER.TCP.DEPTH = depth
        with pytest.raises(InputError, match=message):
            build("TCP", cfg, tiny_clip)


# ---- CoPrompt ----


def test_all_classes_use_the_same_random_sentence(tiny_clip, tmp_path):
    names = ["red_cat", "dog"]
    sentences = {
        "red cat": ["a red cat.", "cats are red.", "red."],
        "dog": ["a dog.", "dogs bark.", "wolf."],
        "owl": [],
    }
    file = tmp_path / "sentences.json"
    file.write_text(json.dumps(sentences))
    method = make("CoPrompt", tiny_clip, "TRAINER.CoPrompt.SENTENCES", str(file), names=names)
    assert method.teacher.shape == (3, 2, 64)
    assert relative(method.teacher[1], frozen_text_features(tiny_clip, ["{}"], ["cats are red.", "dogs bark."])) < 1e-5
    assert {method.draw_sentence().item() for _ in range(50)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ({"cat": ["a"]}, "no sentences about dog"),
        ({"cat": ["a"], "dog": ["a", "b"]}, "equally many"),
        ([], "about cat, dog"),
    ],
)
def test_wrong_sentences_are_one_clear_error(sentences, message, tiny_clip, tmp_path):
    file = tmp_path / "sentences.json"
    file.write_text(json.dumps(sentences))
    method = make("CoPrompt", tiny_clip, "TRAINER.CoPrompt.SENTENCES", str(file), names=["cat", "dog"])
    with pytest.raises(InputError, match=message):
        losses_of(method, batch_of())


def test_the_student_sees_the_first_view_and_the_teacher_the_last(tiny_clip, monkeypatch):
    method, batch = make("CoPrompt", tiny_clip), batch_of(views=2)
    seen = []
    encode = tiny_clip.encode_image
    monkeypatch.setattr(tiny_clip, "encode_image", lambda images, *args: seen.append(images) or encode(images, *args))
    losses_of(method, batch)
    assert [images is view for images, view in zip(seen, batch.views, strict=True)] == [True, True]


def test_an_unknown_distance_is_refused(tiny_clip):
    with pytest.raises(InputError, match="DISTILL"):
        make("CoPrompt", tiny_clip, "TRAINER.CoPrompt.DISTILL", "manhattan")
