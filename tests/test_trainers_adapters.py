"""What is special about the adapters: numbers of parameters, starts that are zero-shot CLIP, merged weights, caches."""

import math

import numpy as np
import pytest
import torch
from conftest import relative
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_methods import NAMES, make
from torch import nn

from clip.clip import tokenize
from clip.model import CLIP
from dassl.utils import InputError, count_num_param, load_checkpoint
from trainers.base import LabelledFeatures, load_method, normalized
from trainers.common.low_rank import LowRankTransformer
from trainers.mma import AdapterLearner, ScaledGradient
from trainers.mmrl import MMRLOptions, Projection, RepresentationLearner
from trainers.mmrlpp import LowRank, MMRLppOptions, SharedRepresentationLearner
from trainers.taskres import read_projection


def zero_shot(clip, images, template="a photo of a {}.", scale=100.0):
    """Zero-shot logits of the frozen CLIP."""
    ids = tokenize([template.replace("{}", name.replace("_", " ")) for name in NAMES])
    with torch.no_grad():
        return scale * normalized(clip.encode_image(images)) @ normalized(clip.encode_text(ids)).t()


class GivenFeatures:
    """Features in place of `TrainingFeatures`."""

    def __init__(self, train, val=None):
        self._train, self._val = train, val

    def train(self, passes=0):
        return self._train

    def val(self):
        return self._val


def one_image_each(clip):
    """An image of each class, with its features."""
    images = torch.randn(len(NAMES), 3, 32, 32)
    with torch.no_grad():
        return images, LabelledFeatures(clip.encode_image(images), torch.arange(len(NAMES)))


def test_lora_starts_as_zero_shot_and_merged_equals_unmerged(tiny_clip):
    model, images = (
        make("CLIPLoRA", tiny_clip, "TRAINER.CLIPLORA.PARAMS", "('q','k','v','o')"),
        torch.randn(3, 3, 32, 32),
    )
    frozen = {name: p.clone() for name, p in tiny_clip.named_parameters()}
    assert relative(model.eval()(images), zero_shot(tiny_clip, images)) < 1e-5
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    unmerged = model(images)  # with gradients
    with torch.no_grad():
        assert relative(model(images), unmerged) < 1e-4
        assert relative(unmerged, zero_shot(tiny_clip, images)) > 1e-2
        with model.merged() as clip:
            assert relative(zero_shot(clip, images), model(images)) < 1e-5
    assert all(torch.equal(p, frozen[name]) for name, p in tiny_clip.named_parameters())


def test_lora_drops_in_training_alone(tiny_clip):
    model, images = make("CLIPLoRA", tiny_clip), torch.randn(2, 3, 32, 32)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    assert torch.equal(model.eval()(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


def test_lora_writes_and_reads_the_official_file(run, tmp_path):
    words = ["TRAINER.CLIPLORA.N_ITERS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 3, "TEST.SAVE_PREDICTIONS", True]
    code, out, err = run(*words, trainer="CLIPLoRA")  # 8 images are 3 batches; 2 * 2 shots are 4 steps
    assert code == 0, err
    assert "epoch [1/2] batch [3/3]" in out
    assert "epoch [2/2] batch [1/1]" in out  # the training stops amid the second epoch
    events = EventAccumulator(str(tmp_path / "out/tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]
    official = load_checkpoint(tmp_path / "out/lora_weights.pt")
    assert official["weights"]["layer_5"]["v_proj"]["w_lora_A"].shape == (2, 192)
    (tmp_path / "released").mkdir()
    (tmp_path / "out/lora_weights.pt").rename(tmp_path / "released/lora_weights.pt")
    words = ["--eval-only", "--model-dir", tmp_path / "released", "TEST.SAVE_PREDICTIONS", True]
    code, _, err = run(*words, trainer="CLIPLoRA", output=tmp_path / "test")
    assert code == 0, err
    found = [np.load(tmp_path / folder / "predictions.npz")["logits"] for folder in ("out", "test")]
    assert np.array_equal(*found)


@pytest.mark.parametrize("odd", [torch.nan, "x", None, 3])
def test_odd_official_files_are_one_error(odd, tiny_clip, tmp_path):
    """The files of CLIP-LoRA and TaskRes aren't read as checkpoints, so they have their own checks."""
    lora = make("CLIPLoRA", tiny_clip)
    layers = lora.official()["weights"]
    matrices = layers["layer_0"]["q_proj"]
    places: list[dict] = [{"weights": odd}, {"weights": layers | {"layer_0": odd}}]
    if isinstance(odd, float):
        places = [{"weights": layers | {"layer_0": {"q_proj": matrices | {"w_lora_A": matrices["w_lora_A"] * odd}}}}]
    for content in places:
        with pytest.raises(InputError, match=r"has no layer_0, q_proj, w_lora_A|w_lora_A of layer_0, q_proj contains"):
            lora.load_official(content, tmp_path / "lora_weights.pt")
    projection = tiny_clip.text_projection
    weight = projection.t() * odd if isinstance(odd, float) else odd
    for state in ({"weight": weight}, odd):
        torch.save({"state_dict": state}, tmp_path / "tuned.pt")
        with pytest.raises(InputError, match=r"ENHANCED_BASE\)(: weight contains| has no tensor weight)"):
            read_projection(str(tmp_path / "tuned.pt"), projection)


def test_parameters_of_a_vit_b16():
    """The published numbers, for text width and embedding 512, vision width 768 and 12 layers."""
    mma = AdapterLearner(range(5, 13), 512, 768, 32, 0.001)
    mmrl = nn.ModuleList([RepresentationLearner(MMRLOptions(), 512, 768), Projection(768, 512)])
    mmrlpp = nn.ModuleList([SharedRepresentationLearner(MMRLppOptions(), 512, 768), LowRank(768, 512, 64)])
    lora = nn.ModuleList(LowRankTransformer(range(12), width, ("q", "k", "v"), 2) for width in (512, 768))
    assert [count_num_param(part) for part in (mma, mmrl, mmrlpp, lora)] == [674_560, 4_992_256, 813_312, 184_320]


def test_the_gradient_of_an_adapter_is_scaled_and_that_of_its_input_is_not(tiny_clip):
    model = make("MultiModalAdapter", tiny_clip)
    adapter = next(iter(model.text_inputs().adapters.values()))
    h = torch.randn(5, 128, requires_grad=True)
    weight = adapter.maps.up.weight
    ours = torch.autograd.grad(adapter.beside(h).square().sum(), [h, weight])
    maps = adapter.maps
    plain = adapter.scale * maps.up(adapter.shared(maps.down(h)))
    true = torch.autograd.grad(plain.square().sum(), [h, weight])
    assert relative(ours[0], true[0]) < 1e-4
    assert relative(ours[1] * adapter.scale, true[1]) < 1e-4
    assert torch.equal(ScaledGradient.apply(h, 0.5), h)


@pytest.mark.parametrize("trainer", ["TipAdapter", "TipAdapterF"])
def test_tip_adapter_without_cache_is_zero_shot(trainer, tiny_clip):
    model = make(trainer, tiny_clip).eval()
    images, train = one_image_each(tiny_clip)
    model.fit(GivenFeatures(train))
    plain = zero_shot(tiny_clip, images)
    with torch.no_grad():
        model.alpha.fill_(0.0)
        assert relative(model(images), plain) < 1e-5
        model.alpha.fill_(2 * (plain.max() - plain.min()).item())
        model.beta.fill_(1e4)
        assert torch.equal(model(images).argmax(1), torch.arange(len(NAMES)))  # an image gets its own label


def test_tip_adapter_on_new_classes_is_zero_shot(tiny_clip, tiny_weights):
    trained = make("TipAdapter", tiny_clip, names=["owl", "bat"])
    tensors = make("TipAdapter", tiny_clip).for_classes(trained.state_dict(), ["owl", "bat"])
    assert tensors["values"].tolist() == [-1, -1]
    model = make("TipAdapter", tiny_clip).eval()
    model.load_state_dict(tensors)
    images = torch.randn(2, 3, 32, 32)
    assert relative(model(images), zero_shot(tiny_clip, images)) < 1e-5


def test_taskres_picks_the_rows_of_known_classes(tiny_clip):
    trained = make("TaskRes", tiny_clip, names=["x", "owl"])
    torch.nn.init.normal_(trained.prompt_learner.text_feature_residuals)
    model = make("TaskRes", tiny_clip)
    rows = model.for_classes(trained.prompt_learner.state_dict(), ["x", "owl"])
    found = rows["text_feature_residuals"]
    assert torch.equal(found[NAMES.index("x")], trained.prompt_learner.text_feature_residuals[0])
    assert found.count_nonzero(dim=1).tolist() == [0, 0, 0, 64]
    assert torch.allclose(rows["base_text_features"], model.prompt_learner.base_text_features, atol=1e-5)


@pytest.mark.parametrize("trainer", ["TaskRes", "CLIP_Adapter", "TipAdapterF"])
def test_cached_features_train_without_the_image_tower(trainer, run, tmp_path, monkeypatch):
    node = "TaskRes" if trainer == "TaskRes" else trainer.upper()
    words = [f"TRAINER.{node}.CACHED_PASSES", 1, "OPTIM.MAX_EPOCH", 3]
    calls = []
    encode = CLIP.encode_image
    monkeypatch.setattr(CLIP, "encode_image", lambda self, *args: calls.append(1) or encode(self, *args))
    code, out, err = run(*words, trainer=trainer)
    assert code == 0, err
    assert "epoch [3/3]" in out
    passes = 1 + (10 if trainer == "TipAdapterF" else 0)
    assert len(calls) <= passes + 2  # the passes, the validation and the test, each in one batch


@pytest.mark.parametrize("trainer", ["MMRL", "MMRLpp"])
def test_mmrl_mixes_logits_for_trained_classes_alone(trainer, tiny_clip):
    model, images = make(trainer, tiny_clip).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        mixed, output = model(images), model.fused(images)
        model.has_new_classes = True
        single = model(images)
    alpha = model.options.ALPHA
    assert torch.allclose(mixed, alpha * single + (1 - alpha) * output.rep_logits, atol=1e-3)
    assert not torch.allclose(mixed, single, atol=1e-2)


def test_a_rebuilt_lora_gives_the_logits_of_its_run(run, tmp_path):
    code, _, err = run("TEST.SAVE_PREDICTIONS", True, trainer="CLIPLoRA")
    assert code == 0, err
    method = load_method(tmp_path / "out")
    assert math.isfinite(method(torch.randn(1, 3, 32, 32)).sum().item())


def test_a_frozen_lora_ignores_gradients(tiny_clip):
    """freeze merges the products for good, so they must not be added again."""
    model, images = make("CLIPLoRA", tiny_clip).eval(), torch.randn(2, 3, 32, 32)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    with torch.no_grad():
        expected = model(images)
    model.freeze()
    assert relative(model(images), expected) < 1e-5


def test_the_official_file_of_a_lora_holds_the_tested_model(run, tmp_path):
    words = ["TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 3, "OPTIM.LR", 5.0]
    code, _, err = run(*words, trainer="CLIPLoRA")
    assert code == 0, err
    best = load_checkpoint(tmp_path / "out/lora/model-best.pth.tar")["state_dict"]
    official = load_checkpoint(tmp_path / "out/lora_weights.pt")["weights"]
    layer = best["transformer.resblocks.0.attn.q_proj.w_lora_B"]
    assert torch.equal(official["layer_0"]["q_proj"]["w_lora_B"], layer)
