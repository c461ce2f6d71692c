"""The residual block: attention in half precision, and towers whose submodules a user replaced or hooked."""

import pytest
import torch
from conftest import relative
from torch import nn

from clip import clip
from clip.attention import attend
from clip.blocks import is_original
from clip.compiling import compile_blocks, is_compiled
from clip.model import from_state_dict


@pytest.mark.parametrize("scores", ["full", "causal", "masked"])
def test_attention_in_bfloat16(scores):
    """With gradients, attention in bfloat16 equals float32 up to rounding."""
    torch.manual_seed(0)
    mask = (
        torch.zeros(5, 5).masked_fill(torch.rand(5, 5) < 0.3, -torch.inf).fill_diagonal_(0)
        if scores == "masked"
        else None
    )
    inputs = torch.randn(3, 2, 4, 5, 64).bfloat16()  # q, k, v (batch, heads, length, width)

    def outcome(dtype):
        q, k, v = parts = [part.to(dtype).requires_grad_() for part in inputs]
        attended = attend(q, k, v, None if mask is None else mask.to(dtype), causal=scores == "causal")
        attended.square().sum().backward()
        return [attended, *(part.grad for part in parts)]

    for ours, theirs in zip(outcome(torch.bfloat16), outcome(torch.float32), strict=True):
        assert ours.dtype == torch.bfloat16
        assert relative(ours.float(), theirs) < 0.03


def test_a_replaced_submodule_is_never_bypassed(tiny_clip):
    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs) * 2

    ids, images = clip.tokenize(["a cat", "a dog"]), torch.randn(1, 3, 32, 32)
    before = tiny_clip.encode_text(ids)
    image_before = tiny_clip.encode_image(images)
    tiny_clip.transformer.resblocks[1].mlp = Doubled(tiny_clip.transformer.resblocks[1].mlp)
    tiny_clip.visual.transformer.resblocks[0].ln_2 = Doubled(tiny_clip.visual.transformer.resblocks[0].ln_2)
    assert relative(tiny_clip.encode_text(ids), before) > 1e-3
    assert relative(tiny_clip.encode_image(images), image_before) > 1e-3


def test_a_tower_with_a_replaced_submodule_is_not_original(tiny_clip, resnet_weights):
    resnet = from_state_dict(resnet_weights)
    assert is_original(tiny_clip.visual)
    assert is_original(resnet.visual)
    tiny_clip.visual.transformer.resblocks[0].mlp = nn.Identity()
    resnet.visual.layer4[0].bn1 = nn.Identity()
    assert not is_original(tiny_clip.visual)
    assert not is_original(resnet.visual)


def test_compiling_marks_a_model(tiny_clip):
    assert not is_compiled(tiny_clip)
    compile_blocks(tiny_clip.visual)
    assert is_compiled(tiny_clip.visual)
    assert not is_compiled(tiny_clip.transformer)
