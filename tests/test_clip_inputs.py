"""Prompts, inserted tokens and adapters: the fast path, chunks and the reference path equal the towers written out."""

import naive_towers
import pytest
import torch
from conftest import relative
from naive_towers import ToyAdapter
from torch import nn

from clip import clip
from clip.inputs import NO_INPUTS, BlockAdapter, TowerInputs
from clip.model import convert_weights, from_state_dict
from clip.text import Layout

TEXT_WIDTH, IMAGE_WIDTH = 128, 192
COUNT = 6  # sequences


def learned(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.3 * torch.randn(*shape))


def tokens(width: int, *layers: int) -> dict[int, nn.Parameter]:
    """Three tokens to insert or replace at each of `layers`."""
    return {layer: learned(3, width) for layer in layers}


def adapters(width: int, *layers: int, **options) -> dict[int, ToyAdapter]:
    return {layer: ToyAdapter(width, **options) for layer in layers}


#: name -> what the text tower gets, for `groups` prefixes.
TEXT_INPUTS = {
    "prompts with a gap": lambda groups: TowerInputs({2: learned(2, TEXT_WIDTH)}),
    "prompts at layer 0": lambda groups: TowerInputs({0: learned(3, TEXT_WIDTH), 1: learned(2, TEXT_WIDTH)}),
    "prompts per prefix": lambda groups: TowerInputs(
        {0: learned(groups, 2, TEXT_WIDTH), 2: learned(groups, 2, TEXT_WIDTH)}
    ),
    "prompts per sequence": lambda groups: TowerInputs({1: learned(COUNT, 2, TEXT_WIDTH)}),
    "prompts per sequence at layer 0": lambda groups: TowerInputs({0: learned(COUNT, 2, TEXT_WIDTH)}),
    "prompts per sequence at the last layer": lambda groups: TowerInputs({2: learned(COUNT, 3, TEXT_WIDTH)}),
    "prompts of all forms": lambda groups: TowerInputs(
        {0: learned(2, TEXT_WIDTH), 1: learned(COUNT, 3, TEXT_WIDTH), 2: learned(groups, 2, TEXT_WIDTH)}
    ),
    "inserted": lambda groups: TowerInputs(inserted=tokens(TEXT_WIDTH, 1, 2)),
    "inserted at layer 0, with a gap": lambda groups: TowerInputs(inserted=tokens(TEXT_WIDTH, 0, 2)),
    "inserted at the last layer": lambda groups: TowerInputs(inserted=tokens(TEXT_WIDTH, 2)),
    "inserted and blended": lambda groups: TowerInputs(inserted=tokens(TEXT_WIDTH, 0, 1, 2), blend=0.3),
    "beside": lambda groups: TowerInputs(adapters=adapters(TEXT_WIDTH, 0, 2, projections=())),
    "deltas": lambda groups: TowerInputs(adapters=adapters(TEXT_WIDTH, 0, 1, 2, beside=False)),
    "deltas of q and v": lambda groups: TowerInputs(
        adapters=adapters(TEXT_WIDTH, 1, beside=False, projections=("q", "v"))
    ),
    "everything": lambda groups: TowerInputs(
        {0: learned(2, TEXT_WIDTH), 2: learned(COUNT, 2, TEXT_WIDTH)},
        tokens(TEXT_WIDTH, 1, 2),
        0.7,
        adapters(TEXT_WIDTH, 0, 1, 2),
    ),
}
IMAGE_INPUTS = {
    "prompts with a gap": lambda: TowerInputs({0: learned(2, IMAGE_WIDTH), 2: learned(2, IMAGE_WIDTH)}),
    "prompts appended later": lambda: TowerInputs({1: learned(2, IMAGE_WIDTH)}),
    "prompts appended later and replaced": lambda: TowerInputs(
        {1: learned(2, IMAGE_WIDTH), 2: learned(3, IMAGE_WIDTH)}
    ),
    "inserted": lambda: TowerInputs(inserted=tokens(IMAGE_WIDTH, 1, 2)),
    "inserted at layer 0, with a gap": lambda: TowerInputs(inserted=tokens(IMAGE_WIDTH, 0, 2)),
    "inserted and blended": lambda: TowerInputs(inserted=tokens(IMAGE_WIDTH, 0, 1, 2), blend=0.3),
    "beside": lambda: TowerInputs(adapters=adapters(IMAGE_WIDTH, 0, 2, projections=())),
    "deltas": lambda: TowerInputs(adapters=adapters(IMAGE_WIDTH, 0, 1, 2, beside=False)),
    "everything": lambda: TowerInputs(
        {0: learned(2, IMAGE_WIDTH), 2: learned(2, IMAGE_WIDTH)},
        tokens(IMAGE_WIDTH, 1, 2),
        0.7,
        adapters(IMAGE_WIDTH, 0, 1, 2),
    ),
}


def parameters(inputs: TowerInputs) -> list[nn.Parameter]:
    modules = nn.ModuleList(adapter for adapter in inputs.adapters.values() if isinstance(adapter, nn.Module))
    return [*inputs.prompts.values(), *inputs.inserted.values(), *modules.parameters()]


def with_gradients(outputs, learnables: list[nn.Parameter]) -> list[torch.Tensor]:
    """The outputs, and the gradients of a random weighted sum of them."""
    g = torch.Generator().manual_seed(0)
    total = sum((output * torch.randn(output.shape, generator=g)).sum() for output in outputs)
    gradients = torch.autograd.grad(total, learnables, allow_unused=True, materialize_grads=True)
    return [*(output.detach() for output in outputs), *gradients]


def assert_all_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-5 * other.abs().max() + 1e-6


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", TEXT_INPUTS)
def test_text_paths_equal_the_written_out_tower(name, groups, tiny_clip):
    torch.manual_seed(0)
    inputs = TEXT_INPUTS[name](groups)
    prefix, lengths = learned(groups, 5, TEXT_WIDTH), torch.tensor([3, 1, 4, 3, 9, 1])
    group = None if groups == 1 else torch.tensor([2, 0, 1, 1, 2, 0])
    class_tokens = torch.randn(int(lengths.sum()), TEXT_WIDTH)
    layout, learnables = Layout(lengths, group), [prefix, *parameters(inputs)]
    index = torch.zeros(COUNT, dtype=torch.long) if group is None else group

    def encode():
        if inputs.inserted:
            return tiny_clip.encode_prompts_rows(prefix, class_tokens, layout, inputs)
        return [tiny_clip.encode_prompts(prefix, class_tokens, layout, inputs)]

    def written_out():
        own = nn.utils.rnn.pad_sequence(class_tokens.split(lengths.tolist()), batch_first=True)
        x = torch.cat([prefix[index], own], dim=1)
        x = torch.cat([x, torch.zeros(COUNT, 77 - x.shape[1], TEXT_WIDTH)], dim=1)
        prompts = {
            layer: prompt[index] if prompt.ndim == 3 and len(prompt) == groups else prompt
            for layer, prompt in inputs.prompts.items()
        }
        whole = TowerInputs(prompts, inputs.inserted, inputs.blend, inputs.adapters)
        return naive_towers.text(tiny_clip, x, 5 + lengths - 1, whole)[: 2 if inputs.inserted else 1]

    expected = with_gradients(written_out(), learnables)
    for attention in ("by_length", "padded"):
        tiny_clip.text_attention = attention
        for chunk in (0, 1, 30):
            tiny_clip.text_chunk = chunk
            assert_all_close(with_gradients(encode(), learnables), expected)
    tiny_clip.text_chunk = 0
    tiny_clip.transformer.register_forward_hook(lambda *_: None)  # from here on the reference path runs
    assert_all_close(with_gradients(encode(), learnables), expected)


@pytest.mark.parametrize("hooked", [False, True], ids=["fast", "reference"])
@pytest.mark.parametrize("name", IMAGE_INPUTS)
def test_image_paths_equal_the_written_out_tower(name, hooked, tiny_clip):
    torch.manual_seed(0)
    inputs, images = IMAGE_INPUTS[name](), torch.randn(3, 3, 32, 32)
    if hooked:
        tiny_clip.visual.transformer.register_forward_hook(lambda *_: None)
    learnables = parameters(inputs)

    def expected(*rows: str):
        features, inserted, patches = naive_towers.image(tiny_clip, images, inputs)
        values = {"inserted": inserted, "patches": patches}
        return with_gradients([features, *(values[name] for name in rows)], learnables)

    assert_all_close(with_gradients([tiny_clip.encode_image(images, inputs)], learnables), expected())
    for rows in ("patches", "inserted") if inputs.inserted else ("patches",):
        ours = with_gradients(tiny_clip.encode_image_rows(images, inputs, rows), learnables)
        assert_all_close(ours, expected(rows))


def test_patch_rows_without_inputs(tiny_clip):
    images = torch.randn(2, 3, 32, 32)
    features, patches = tiny_clip.encode_image_rows(images, NO_INPUTS, "patches")
    assert relative(features, tiny_clip.encode_image(images)) < 1e-6
    assert relative(patches, naive_towers.image(tiny_clip, images, NO_INPUTS)[2]) < 1e-5


TEXTS = ["a photo of a cat.", "itap of the grand piano, a big one", "x y z"]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["a photo of a cat.", "a photo of a dog."]])
def test_texts_from_token_ids_take_inputs(texts, tiny_clip):
    """Prompts may cover positions where the texts differ."""
    ids = clip.tokenize(texts)
    inputs = TowerInputs(
        {0: learned(3, TEXT_WIDTH), 1: learned(2, TEXT_WIDTH)}, tokens(TEXT_WIDTH, 1), 1.0, adapters(TEXT_WIDTH, 0, 2)
    )
    expected, _ = naive_towers.text(tiny_clip, tiny_clip.token_embedding(ids), ids.argmax(-1), inputs)
    assert relative(tiny_clip.encode_text(ids, inputs), expected) < 1e-5
    if len(texts) > 1:
        per_text = TowerInputs({1: learned(len(texts), 2, TEXT_WIDTH)})
        expected, _ = naive_towers.text(tiny_clip, tiny_clip.token_embedding(ids), ids.argmax(-1), per_text)
        assert relative(tiny_clip.encode_text(ids, per_text), expected) < 1e-5


def test_empty_inputs_change_no_bit(tiny_clip):
    ids, images = clip.tokenize(TEXTS), torch.randn(2, 3, 32, 32)
    empty = TowerInputs(adapters={1: BlockAdapter()})
    for inputs in (TowerInputs(), empty):
        assert torch.equal(tiny_clip.encode_text(ids, inputs), tiny_clip.encode_text(ids))
        assert torch.equal(tiny_clip.encode_image(images, inputs), tiny_clip.encode_image(images))


def test_wrong_inputs_are_refused(tiny_clip, resnet_weights):
    layout, own, images = Layout(torch.tensor([1, 2])), torch.randn(3, TEXT_WIDTH), torch.randn(1, 3, 32, 32)
    prompt = torch.randn(2, TEXT_WIDTH)

    def encode(inputs, length=5):
        return tiny_clip.encode_prompts(torch.randn(1, length, TEXT_WIDTH), own, layout, inputs)

    with pytest.raises(ValueError, match="prompts at layer 3, but the tower has layers 0 to 2"):
        encode(TowerInputs({3: prompt}))
    with pytest.raises(ValueError, match="adapters at layer -1"):
        encode(TowerInputs(adapters={-1: BlockAdapter()}))
    with pytest.raises(ValueError, match="too short"):
        encode(TowerInputs({1: prompt}), length=2)
    with pytest.raises(ValueError, match="3 groups, but there are 1 prefixes and 2 sequences"):
        encode(TowerInputs({1: prompt.expand(3, 2, -1)}))
    with pytest.raises(ValueError, match="same number of tokens"):
        encode(TowerInputs(inserted={0: prompt, 1: prompt[:1]}))
    with pytest.raises(ValueError, match="fewer than 4 tokens"):
        tiny_clip.encode_text(clip.tokenize(["a b c", "x y z w v"]), TowerInputs({0: torch.randn(4, TEXT_WIDTH)}))
    with pytest.raises(ValueError, match="can't return inserted rows"):
        tiny_clip.encode_prompts_rows(torch.randn(1, 5, TEXT_WIDTH), own, layout, NO_INPUTS)
    with pytest.raises(ValueError, match="can't return inserted rows"):
        tiny_clip.encode_image_rows(images, NO_INPUTS, "inserted")
    with pytest.raises(ValueError, match="image inserted tokens at layer 7"):
        tiny_clip.encode_image(images, TowerInputs(inserted={7: torch.randn(1, IMAGE_WIDTH)}))
    resnet = from_state_dict(resnet_weights)
    with pytest.raises(TypeError, match="ResNet"):
        resnet.encode_image(torch.randn(1, 3, 64, 64), TowerInputs({0: torch.randn(1, 64)}))
    with pytest.raises(TypeError, match="ResNet"):
        resnet.encode_image_rows(torch.randn(1, 3, 64, 64), NO_INPUTS, "patches")


def test_recomputed_chunks_draw_the_same_dropout(tiny_clip):
    class Dropout(BlockAdapter, nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.drawn = nn.Parameter(torch.ones(())), []

        def delta(self, projection, h):
            mask = (torch.rand(h.shape) > 0.5).float()
            self.drawn.append(int(mask.sum()))
            return self.scale * mask * h

    adapter, ids = Dropout(), clip.tokenize(TEXTS)
    tiny_clip.text_chunk = 12
    tiny_clip.encode_text(ids, TowerInputs(adapters={1: adapter})).sum().backward()
    assert adapter.scale.grad != 0
    half = len(adapter.drawn) // 2
    assert half > 4  # q, k, v and out in more than one chunk
    assert sorted(adapter.drawn[:half]) == sorted(adapter.drawn[half:])


class Doubled(nn.Module):
    """A user's own change of a submodule."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        outputs = self.inner(*args, **kwargs)
        return (outputs[0] * 2, *outputs[1:]) if isinstance(outputs, tuple) else outputs * 2


def test_a_replaced_attention_runs_beside_an_adapter_but_takes_no_deltas(tiny_clip):
    ids, first = clip.tokenize(TEXTS), tiny_clip.transformer.resblocks[0]
    inputs = TowerInputs(adapters=adapters(TEXT_WIDTH, 0, projections=()))
    before = tiny_clip.encode_text(ids, inputs)
    first.attn = Doubled(first.attn)
    assert relative(tiny_clip.encode_text(ids, inputs), before) > 1e-3
    with pytest.raises(TypeError, match="attention was replaced or hooked"):
        tiny_clip.encode_text(ids, TowerInputs(adapters=adapters(TEXT_WIDTH, 0)))


def test_a_hooked_transformer_sees_prompts_too(tiny_clip):
    lengths: list[int] = []
    tiny_clip.visual.transformer.register_forward_hook(lambda module, args, output: lengths.append(len(output)))
    tiny_clip.encode_image(torch.randn(1, 3, 32, 32), TowerInputs({1: torch.randn(2, IMAGE_WIDTH)}))
    assert lengths == [4 + 1 + 2]


def test_float32_inputs_in_a_bfloat16_tower(tiny_clip, tiny_weights):
    torch.manual_seed(0)
    low = from_state_dict(tiny_weights)
    convert_weights(low, torch.bfloat16)
    ids, images = clip.tokenize(TEXTS), torch.randn(2, 3, 32, 32)
    text, image = TEXT_INPUTS["everything"](1), IMAGE_INPUTS["everything"]()
    text = TowerInputs({0: text.prompts[0]}, text.inserted, text.blend, text.adapters)
    with torch.no_grad():
        features = low.encode_text(ids, text), low.encode_image(images, image)
        assert [part.dtype for part in features] == [torch.bfloat16] * 2
        assert relative(features[0].float(), tiny_clip.encode_text(ids, text)) < 0.05
        assert relative(features[1].float(), tiny_clip.encode_image(images, image)) < 0.05
