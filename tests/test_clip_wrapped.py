"""Transformers that a user subclassed, wrapped or patched, so that their `forward` takes only x, still take inputs."""

import pytest
import torch
from conftest import relative
from naive_towers import ToyAdapter
from torch import nn

from clip import clip
from clip.blocks import ResidualAttentionBlock, Transformer
from clip.inputs import NO_INPUTS, TowerInputs

TEXT_WIDTH, IMAGE_WIDTH = 128, 192
IDS = clip.tokenize(["a photo of a cat", "a photo of a big dog"])


class Wrapper(nn.Module):
    """Hides all attributes of the transformer except, optionally, its blocks."""

    def __init__(self, inner: Transformer, with_blocks: bool):
        super().__init__()
        self.inner = inner
        if with_blocks:
            self.resblocks = inner.resblocks

    def forward(self, x):
        return self.inner(x)


class OnlyX(Transformer):
    def forward(self, x):
        return super().forward(x)


class BlockOfOnlyX(ResidualAttentionBlock):
    def forward(self, x):
        return super().forward(x)


def subclassed(inner: Transformer) -> nn.Module:
    copy = OnlyX(inner.width, inner.layers, inner.heads, causal=inner.resblocks[0].causal)
    copy.load_state_dict(inner.state_dict())
    return copy


def patched(inner: Transformer) -> nn.Module:
    inner.forward = lambda x: inner.resblocks(x)
    return inner


#: name -> function that changes a transformer in such a way that its outputs stay the same
CHANGES = {
    "wrapped": lambda inner: Wrapper(inner, with_blocks=True),
    "blocks hidden": lambda inner: Wrapper(inner, with_blocks=False),
    "subclassed": subclassed,
    "patched": patched,
}


def cases(width: int) -> dict[str, TowerInputs]:
    torch.manual_seed(0)
    prompts = [0.3 * torch.randn(2, width) for _ in range(3)]
    return {
        "empty": NO_INPUTS,
        "layer 0": TowerInputs({0: prompts[0]}),
        "inserted at layer 0": TowerInputs(inserted={0: prompts[0]}),
        "all layers": TowerInputs(dict(enumerate(prompts))),
        "inserted later": TowerInputs(inserted={1: prompts[0], 2: prompts[1]}),
        "adapter": TowerInputs({0: prompts[0]}, adapters={1: ToyAdapter(width)}),
    }


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", cases(1))
def test_a_changed_transformer_takes_inputs(name, change, tiny_clip):
    text, image, images = cases(TEXT_WIDTH)[name], cases(IMAGE_WIDTH)[name], torch.randn(2, 3, 32, 32)
    expected = tiny_clip.encode_image(images, image), tiny_clip.encode_text(IDS, text)
    tiny_clip.transformer = CHANGES[change](tiny_clip.transformer)
    tiny_clip.visual.transformer = CHANGES[change](tiny_clip.visual.transformer)
    if change == "blocks hidden" and name in ("all layers", "inserted later", "adapter"):
        with pytest.raises(TypeError, match="Wrapper has none"):
            tiny_clip.encode_image(images, image)
        with pytest.raises(TypeError, match="Wrapper has none"):
            tiny_clip.encode_text(IDS, text)
    else:
        assert relative(tiny_clip.encode_image(images, image), expected[0]) < 1e-5
        assert relative(tiny_clip.encode_text(IDS, text), expected[1]) < 1e-5


@pytest.mark.parametrize("with_blocks", [True, False])
def test_layers_of_a_wrapped_transformer_are_checked(with_blocks, tiny_clip):
    tiny_clip.transformer = Wrapper(tiny_clip.transformer, with_blocks)
    tiny_clip.visual.transformer = Wrapper(tiny_clip.visual.transformer, with_blocks)
    with pytest.raises(ValueError, match="image prompts at layer 3, but the tower has layers 0 to 2"):
        tiny_clip.encode_image(torch.randn(1, 3, 32, 32), TowerInputs({3: torch.randn(2, IMAGE_WIDTH)}))
    with pytest.raises(ValueError, match="text prompts at layer 3, but the tower has layers 0 to 2"):
        tiny_clip.encode_text(IDS, TowerInputs({3: torch.randn(2, TEXT_WIDTH)}))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_block_without_the_argument_takes_no_adapter(wrapped, tiny_clip):
    blocks = tiny_clip.transformer.resblocks
    block = BlockOfOnlyX(TEXT_WIDTH, 2, causal=True)
    block.load_state_dict(blocks[1].state_dict())
    blocks[1] = block
    if wrapped:
        tiny_clip.transformer = Wrapper(tiny_clip.transformer, with_blocks=True)
    tiny_clip.encode_text(IDS, TowerInputs(adapters={0: ToyAdapter(TEXT_WIDTH)}))
    with pytest.raises(TypeError, match="an adapter can't change layer 1"):
        tiny_clip.encode_text(IDS, TowerInputs(adapters={1: ToyAdapter(TEXT_WIDTH)}))


def test_a_pre_hook_that_returns_only_x_drops_no_inputs(tiny_clip):
    inputs = cases(TEXT_WIDTH)["all layers"]
    expected = tiny_clip.encode_text(IDS, inputs)
    tiny_clip.transformer.register_forward_pre_hook(lambda module, args: (args[0],))
    assert relative(tiny_clip.encode_text(IDS, inputs), expected) < 1e-5
