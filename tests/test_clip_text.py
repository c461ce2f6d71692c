"""The fast text tower: equal to the reference path for any lengths, prefixes and chunks; how texts are packed."""

import numpy as np
import pytest
import torch
from conftest import relative
from naive_towers import assert_same, features_and_gradients, use_reference_path
from torch import nn

import clip.text
from clip.clip import tokenize
from clip.inputs import TowerInputs
from clip.layout import Layout, Tokens


def text_case(seed: int, count: int, most: int | None = None):
    """(prefix, class tokens, lengths, deep prompts) of random sizes that fit the tower."""
    rng = np.random.RandomState(seed)
    context = int(rng.randint(1, 9))
    shared = 1 + context + int(rng.randint(0, 4))
    longest = most or int(rng.randint(1, 77 - shared))
    lengths = torch.tensor(rng.randint(1, longest + 1, count))
    if seed == 0 and not most:
        lengths[-1] = 77 - shared  # as long as the context takes
    torch.manual_seed(seed)
    prefix = nn.Parameter(0.1 * torch.randn(1, shared, 128))
    class_tokens = 0.1 * torch.randn(int(lengths.sum()), 128)
    deep = [nn.Parameter(0.1 * torch.randn(context, 128)) for _ in range(rng.randint(0, 3))]
    return prefix, class_tokens, lengths, deep


@pytest.mark.parametrize(
    ("count", "seed"),
    [*((count, seed) for count in (1, 2, 7, 40) for seed in range(4)), pytest.param(1000, 0, marks=pytest.mark.slow)],
)
def test_the_text_tower(count, seed, tiny_clip):
    """Both ways of attention, chunks of any size and the reference path are equal, for names of any length."""
    prefix, class_tokens, lengths, deep = text_case(seed, count, most=12 if count > 100 else None)
    layout, parameters = Layout(lengths), [prefix, *deep]

    def encode():
        return tiny_clip.encode_prompts(prefix, class_tokens, layout, TowerInputs(dict(enumerate(deep, 1))))

    fast = features_and_gradients(encode, parameters)
    for chunk in (1, 7, 100) if count < 1000 else (1000,):
        tiny_clip.text_chunk = chunk
        assert_same(features_and_gradients(encode, parameters), fast)
        with torch.no_grad():
            assert relative(encode(), fast[0]) < 1e-5
    tiny_clip.text_attention = "padded"
    for chunk in (0, 100) if count < 1000 else (0,):
        tiny_clip.text_chunk = chunk
        assert_same(features_and_gradients(encode, parameters), fast)
    tiny_clip.text_chunk = 0
    use_reference_path(tiny_clip)
    assert_same(fast, features_and_gradients(encode, parameters))


@pytest.mark.parametrize("seed", range(3))
def test_the_text_tower_with_several_prefixes(seed, tiny_clip):
    """As CoCoOp and SoftCPT use it: sequences follow prefixes in any order, with deep prompts per prefix."""
    _, class_tokens, lengths, _ = text_case(seed, 30)
    torch.manual_seed(seed)
    prefix = nn.Parameter(0.1 * torch.randn(4, 3, 128))
    deep = [nn.Parameter(0.1 * torch.randn(4, 2, 128))]
    layout = Layout(lengths, torch.randint(0, 4, (30,)))

    def encode():
        return tiny_clip.encode_prompts(prefix, class_tokens, layout, TowerInputs(dict(enumerate(deep, 1))))

    fast = features_and_gradients(encode, [prefix, *deep])
    tiny_clip.text_chunk = 50
    assert_same(features_and_gradients(encode, [prefix, *deep]), fast)
    use_reference_path(tiny_clip)
    tiny_clip.text_chunk = 0
    assert_same(fast, features_and_gradients(encode, [prefix, *deep]))


def test_prefixes_count_in_the_size_of_a_chunk(tiny_clip, monkeypatch):
    """A context for each class, as in SoftCPT: no chunk has more than TEXT_CHUNK tokens, including prefixes."""
    lengths = torch.full((20,), 3)
    layout, prefix, class_tokens = Layout(lengths, torch.arange(20)), torch.randn(20, 7, 128), torch.randn(60, 128)
    expected, sizes = tiny_clip.encode_prompts(prefix, class_tokens, layout), []
    encode = clip.text._encode_all
    monkeypatch.setattr(
        clip.text, "_encode_all", lambda *args: sizes.append(sum(map(_rows, args[1:3]))) or encode(*args)
    )
    tiny_clip.text_chunk = 50
    assert relative(tiny_clip.encode_prompts(prefix, class_tokens, layout), expected) < 1e-5
    assert sizes == [50] * 4


def _rows(embeddings):
    return embeddings.numel() // 128


def test_trainable_weights_get_their_gradients(tiny_clip):
    """If the backbone is trained, its gradients equal those of the reference path."""
    tiny_clip.requires_grad_(True)
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[:, :4] = torch.tensor([[49406, 320, 1125, 49407], [49406, 320, 2368, 49407]])
    images = torch.randn(2, 3, 32, 32)
    names = dict(tiny_clip.named_parameters())
    used = [value for name, value in names.items() if name != "logit_scale"]

    def encode():
        return torch.cat([tiny_clip.encode_image(images), tiny_clip.encode_text(ids)])

    fast = features_and_gradients(encode, used)
    use_reference_path(tiny_clip)
    assert_same(fast, features_and_gradients(encode, used), tolerance=1e-4)


def test_token_ids_are_split_where_they_differ():
    tokens = Tokens.cut(tokenize(["a photo of a cat.", "a photo of a grand piano."]))
    assert tokens.prefix.tolist() == tokenize("a photo of a")[0, :5].tolist()
    assert tokens.layout.lengths.tolist() == [3, 4]  # name, ".", EOT
    one = Tokens.cut(tokenize(["a cat."]))
    assert len(one.class_tokens) == 1  # one class: the prefix is all but EOT
