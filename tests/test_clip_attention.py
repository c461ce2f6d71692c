"""The text tower's two ways of attention, in every trainer: equal results, chosen by the device or by the user."""

import launches
import measure
import pytest
import torch
import torch.nn.functional as F
from conftest import relative
from naive_towers import assert_same, features_and_gradients, use_reference_path
from tiny_methods import NAMES, each_trainer, make

from clip.blocks import LayerNorm
from clip.by_length import RowsByLength
from clip.model import cast_towers, from_state_dict
from clip.padded import PaddedRows
from clip.text import packing_for

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
#: Options that change how the texts are packed: trainer -> config words.
PACKINGS = [
    ("CoOp", "TRAINER.COOP.CSC", "True"),
    ("CoOp", "TRAINER.COOP.CLASS_TOKEN_POSITION", "middle"),
    ("SoftCPT", "TRAINER.SOFTCPT.CSC", "True"),
]


#: With dropout, two passes differ.
OPTIONS = {"CLIPLoRA": ("TRAINER.CLIPLORA.DROPOUT", "0.0")}


def assert_equal_ways(trainer, tiny_clip, *words):
    words = (*OPTIONS.get(trainer, ()), *words)
    method = make(trainer, tiny_clip, *words, names=[*NAMES, "thing x"])
    learnables = list(method.parameters())

    def outcome():
        if learnables:
            return features_and_gradients(lambda: method(IMAGES), learnables)
        with torch.no_grad():
            return [method(IMAGES)]

    by_length = outcome()
    tiny_clip.text_attention = "padded"
    method.clear_text_cache()
    assert_same(outcome(), by_length)
    use_reference_path(tiny_clip)
    method.clear_text_cache()
    assert_same(outcome(), by_length, tolerance=2e-5)


@each_trainer
def test_both_ways_of_attention_are_equal(trainer, tiny_clip):
    assert_equal_ways(trainer, tiny_clip)


@pytest.mark.parametrize(("trainer", "key", "value"), PACKINGS)
def test_both_ways_are_equal_for_other_packings(trainer, key, value, tiny_clip):
    assert_equal_ways(trainer, tiny_clip, key, value)


@pytest.mark.parametrize("trainer", measure.trained_in_steps())
def test_a_padded_step_never_waits_for_the_device(trainer, tiny_clip):
    """After the first step, no value is read back and no index tensor is made. So a CUDA graph can hold the step."""
    cast_towers(tiny_clip, torch.bfloat16)
    method = make(trainer, tiny_clip)
    with launches.as_on_a_gpu(tiny_clip):
        calls = launches.step_calls(method, len(NAMES), batch=2)
    refused = {"_local_scalar_dense", "nonzero", "arange", "repeat_interleave", "_unique2", "sort", "masked_select"}
    assert not refused & set(calls)


def test_the_device_decides_unless_the_user_does():
    assert packing_for(torch.device("cpu"), "auto") is RowsByLength
    assert packing_for(torch.device("cuda"), "auto") is PaddedRows
    assert packing_for(torch.device("cpu"), "padded") is PaddedRows
    assert packing_for(torch.device("cuda"), "by_length") is RowsByLength


def test_the_config_selects_the_attention(run, tmp_path, monkeypatch):
    used = set()
    for kind in (RowsByLength, PaddedRows):
        attend = kind.attend
        monkeypatch.setattr(kind, "attend", lambda *args, kind=kind, attend=attend: used.add(kind) or attend(*args))
    assert run("TRAINER.TEXT_ATTENTION", "padded")[0] == 0
    assert used == {PaddedRows}
    code, _, err = run("TRAINER.TEXT_ATTENTION", "flash", output=tmp_path / "other")
    assert code == 2
    assert "unknown TRAINER.TEXT_ATTENTION" in err


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_norms_in_half_precision_compute_in_float32(dtype):
    """With weights of the input's dtype, only the result is rounded."""
    torch.manual_seed(0)
    norm, x = LayerNorm(512), (30 * torch.randn(64, 512) + 100).to(dtype)
    torch.nn.init.normal_(norm.weight)
    norm.to(dtype)
    exact = F.layer_norm(x.double(), (512,), norm.weight.double(), norm.bias.double())
    assert norm(x).dtype == dtype
    assert relative(norm(x).double(), exact) <= torch.finfo(dtype).eps
    assert relative(norm(x).double(), norm.float()(x).double()) <= torch.finfo(dtype).eps  # weights in float32


def test_cast_towers_leaves_nothing_to_cast_in_a_step(tiny_clip, tiny_weights):
    class UsersNorm(LayerNorm):
        pass

    tiny_clip.visual.transformer.resblocks[0].ln_1 = UsersNorm(192)
    cast_towers(tiny_clip, torch.float16)
    kept = {"token_embedding.weight", "logit_scale"}
    kept |= {f"visual.transformer.resblocks.0.ln_1.{name}" for name in ("weight", "bias")}
    assert {name for name, p in tiny_clip.named_parameters() if p.dtype != torch.float16} == kept
    model = from_state_dict(tiny_weights)
    cast_towers(model, torch.bfloat16)
    images = IMAGES.bfloat16()
    with torch.no_grad(), launches.CallCounter() as counter:
        model.encode_image(images)
    assert not counter.calls["_to_copy"]
