"""The fast ways against the naive one: features and gradients, over random depths, lengths and class names."""

import json
import shutil
from dataclasses import replace

import measure
import numpy as np
import pytest
import torch
from conftest import depth_words, relative
from torch import nn

import clip.text
from clip.blocks import ResidualAttentionBlock, attend, module_types
from clip.inputs import TowerInputs
from clip.model import CLIP, from_state_dict
from clip.text import Layout
from dassl.utils import cache_folder
from trainers.common.features import is_plain
from trainers.coop import CoOp


def naive(model: CLIP):
    """A context in which the towers work plainly, over whole sequences: whoever hooks them gets that."""
    towers = [tower for tower in (model.transformer, getattr(model.visual, "transformer", None)) if tower]
    return [tower.register_forward_hook(lambda *_: None) for tower in towers]


def text_case(seed: int, count: int, most: int | None = None):
    """Random prompts: (prefix, own, lengths, deep), of any prefix, depth and lengths that the tower has room for."""
    rng = np.random.RandomState(seed)
    context = int(rng.randint(1, 9))
    shared = 1 + context + int(rng.randint(0, 4))
    longest = most or int(rng.randint(1, 77 - shared))
    lengths = torch.tensor(rng.randint(1, longest + 1, count))
    if seed == 0 and not most:
        lengths[-1] = 77 - shared  # as long as the context takes
    torch.manual_seed(seed)
    prefix = nn.Parameter(0.1 * torch.randn(1, shared, 128))
    own = 0.1 * torch.randn(int(lengths.sum()), 128)
    deep = [nn.Parameter(0.1 * torch.randn(context, 128)) for _ in range(rng.randint(0, 3))]
    return prefix, own, lengths, deep


def features_and_gradients(encode, parameters):
    for parameter in parameters:
        parameter.grad = None
    features = encode()
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    (features * weights).sum().backward()
    return features.detach(), [parameter.grad.clone() for parameter in parameters]


def check_same(first, second, tolerance=1e-5):
    assert relative(first[0], second[0]) < tolerance
    for one, other in zip(first[1], second[1], strict=True):
        assert relative(one, other) < tolerance


@pytest.mark.parametrize(
    ("count", "seed"), [*((count, seed) for count in (1, 2, 7, 40) for seed in range(4)), (1000, 0)]
)
def test_the_text_tower(count, seed, tiny_clip):
    """All at once, in parts of any size, and naively; one class, a thousand, names as long as the context takes."""
    prefix, own, lengths, deep = text_case(seed, count, most=12 if count > 100 else None)
    layout, parameters = Layout(lengths), [prefix, *deep]

    def encode():
        return tiny_clip.encode_prompts(prefix, own, layout, TowerInputs(dict(enumerate(deep, 1))))

    fast = features_and_gradients(encode, parameters)
    for chunk in (1, 7, 100) if count < 1000 else (1000,):
        tiny_clip.text_chunk = chunk
        check_same(features_and_gradients(encode, parameters), fast)
        with torch.no_grad():
            assert relative(encode(), fast[0]) < 1e-5
    tiny_clip.text_chunk = 0
    naive(tiny_clip)
    check_same(fast, features_and_gradients(encode, parameters))


@pytest.mark.parametrize("seed", range(3))
def test_the_text_tower_behind_several_prefixes(seed, tiny_clip):
    """As CoCoOp and SoftCPT use it: groups, with deep prompts of their own, in any order."""
    _, own, lengths, _ = text_case(seed, 30)
    torch.manual_seed(seed)
    prefix = nn.Parameter(0.1 * torch.randn(4, 3, 128))
    deep = [nn.Parameter(0.1 * torch.randn(4, 2, 128))]
    layout = Layout(lengths, torch.randint(0, 4, (30,)))

    def encode():
        return tiny_clip.encode_prompts(prefix, own, layout, TowerInputs(dict(enumerate(deep, 1))))

    fast = features_and_gradients(encode, [prefix, *deep])
    tiny_clip.text_chunk = 50
    check_same(features_and_gradients(encode, [prefix, *deep]), fast)
    naive(tiny_clip)
    tiny_clip.text_chunk = 0
    check_same(fast, features_and_gradients(encode, [prefix, *deep]))


def test_prefixes_take_their_part_of_the_room(tiny_clip, monkeypatch):
    """A context for each class, as in SoftCPT: no part is larger than TEXT_CHUNK, prefixes included."""
    lengths = torch.full((20,), 3)
    layout, prefix, own = Layout(lengths, torch.arange(20)), torch.randn(20, 7, 128), torch.randn(60, 128)
    whole, sizes = tiny_clip.encode_prompts(prefix, own, layout), []
    encode = clip.text._encode_all
    monkeypatch.setattr(
        clip.text, "_encode_all", lambda *args: sizes.append(sum(map(_rows, args[1:3]))) or encode(*args)
    )
    tiny_clip.text_chunk = 50
    assert relative(tiny_clip.encode_prompts(prefix, own, layout), whole) < 1e-5
    assert sizes == [50] * 4


def _rows(embeddings):
    return embeddings.numel() // 128


def test_classes_that_are_not_drawn_cost_nothing(tiny_clip, monkeypatch):
    """SoftCPT's CLS_SAMPLE_RATE: the text tower sees the drawn classes' contexts alone."""
    words = ["TRAINER.SOFTCPT.CSC", "True", "TRAINER.SOFTCPT.CLS_SAMPLE_RATE", "0.1"]
    method = measure.build_method("SoftCPT", tiny_clip, 40, words)
    seen, encode = [], tiny_clip.encode_prompts
    monkeypatch.setattr(tiny_clip, "encode_prompts", lambda *about: seen.append(len(about[0])) or encode(*about))
    logits = method.sampled_logits(measure.images(tiny_clip, 2), torch.tensor([3, 7]))
    assert (logits > -torch.inf).all(0).sum() == 2 + 4  # the batch's own, and a tenth of the others
    assert max(seen) == 6


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("quick", [True, False])
def test_the_image_tower(depth, quick, tiny_weights):
    model = from_state_dict(tiny_weights)
    if not quick:
        for tower in (model.transformer, model.visual.transformer):
            for block in tower.resblocks:
                block.mlp.gelu = nn.GELU()
            tower.original_types = module_types(tower)
    torch.manual_seed(depth)
    prompts = [nn.Parameter(0.1 * torch.randn(2, 192)) for _ in range(depth)]
    images = torch.randn(3, 3, 32, 32, requires_grad=True)

    def encode():
        return model.encode_image(images, TowerInputs(dict(enumerate(prompts))))

    fast = features_and_gradients(encode, [images, *prompts])
    naive(model)
    check_same(fast, features_and_gradients(encode, [images, *prompts]))


def test_trainable_weights_get_their_gradients(tiny_clip):
    """Whoever thaws the backbone gets the same gradients as plainly."""
    tiny_clip.requires_grad_(True)
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[:, :4] = torch.tensor([[49406, 320, 1125, 49407], [49406, 320, 2368, 49407]])
    images = torch.randn(2, 3, 32, 32)
    names = dict(tiny_clip.named_parameters())
    used = [value for name, value in names.items() if name != "logit_scale"]

    def encode():
        return torch.cat([tiny_clip.encode_image(images), tiny_clip.encode_text(ids)])

    fast = features_and_gradients(encode, used)
    naive(tiny_clip)
    check_same(fast, features_and_gradients(encode, used), tolerance=1e-4)


# ---- kept image features ----


@pytest.fixture
def encoded(run, tmp_path, monkeypatch):
    """(result, how many images the tower encoded) of a test; what is kept starts empty."""
    import clip.vision

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen: list[int] = []
    forward = clip.vision.VisionTransformer.forward
    monkeypatch.setattr(
        clip.vision.VisionTransformer,
        "forward",
        lambda tower, x, *words: seen.append(len(x)) or forward(tower, x, *words),
    )
    number = iter(range(100))

    def encoded(*words, trainer="ZeroshotCLIP"):
        seen.clear()
        output = tmp_path / f"run{next(number)}"
        code, _, err = run("TEST.SAVE_PREDICTIONS", "True", *words, trainer=trainer, output=output)
        assert code == 0, err
        with np.load(output / "predictions.npz") as predictions:
            return predictions["logits"].copy(), sum(seen)

    return encoded


def test_image_features_are_made_once_for_all_methods_that_share_them(encoded):
    plain, images = encoded("TEST.CACHE_FEATURES", "False")
    assert images == 8
    assert not (cache_folder() / "features").exists()
    first, made = encoded()
    assert made == 8
    again, made = encoded("DATASET.NUM_SHOTS", 1)
    assert made == 0
    assert np.array_equal(plain, first)  # to the bit
    assert np.array_equal(plain, again)
    for trainer in ("CoOp", "CoCoOp", "LanguagePrompting", "ZeroshotCLIP2", "SoftCPT"):
        shared = encoded("OPTIM.MAX_EPOCH", 0, trainer=trainer)
        assert shared[1] == 0, trainer
        own = encoded("OPTIM.MAX_EPOCH", 0, "TEST.CACHE_FEATURES", "False", trainer=trainer)
        assert np.array_equal(shared[0], own[0])
    assert encoded("OPTIM.MAX_EPOCH", 0, trainer="MaPLe")[1] == 8  # sees otherwise
    assert encoded("OPTIM.MAX_EPOCH", 0, trainer="VPT")[1] == 8


def test_a_changed_weight_transform_or_image_is_noticed(encoded, own_data, tmp_path, tiny_weights):
    encoded()
    weights = dict(tiny_weights)
    weights["visual.proj"] = weights["visual.proj"] * 1.0001
    torch.save(weights, tmp_path / "other.pt")
    assert encoded("MODEL.BACKBONE.PATH", tmp_path / "other.pt")[1] == 8
    assert encoded("INPUT.INTERPOLATION", "nearest")[1] == 8
    assert encoded("DATALOADER.TEST.BATCH_SIZE", 3)[1] == 8  # other products may round otherwise
    assert encoded()[1] == 0
    for image in own_data.rglob("*.png"):
        image.touch()
    assert encoded()[1] == 8


@pytest.mark.parametrize("part", ["", "conv1", "ln_post", "transformer.resblocks.0.mlp"])
def test_features_of_a_changed_tower_are_not_kept(part, encoded, monkeypatch):
    """A hook anywhere in the tower: what is kept is not read, and what comes out is not kept."""
    plain, _ = encoded()
    make = CoOp.make_model.__func__

    def hooked(cls, cfg, model, data):
        model.visual.get_submodule(part).register_forward_hook(lambda *about: about[-1] * 2 + 1)
        return make(cls, cfg, model, data)

    with monkeypatch.context() as patch:
        patch.setattr(CoOp, "make_model", classmethod(hooked))
        changed = [encoded("OPTIM.MAX_EPOCH", 0, trainer="CoOp") for _ in range(2)]
    assert [made for _, made in changed] == [8, 8]
    assert np.array_equal(changed[0][0], changed[1][0])
    again, made = encoded()
    assert (made, np.array_equal(again, plain)) == (0, True)


def test_what_makes_a_tower_plain(tiny_clip, resnet_weights):
    resnet = from_state_dict(resnet_weights)
    assert is_plain(tiny_clip.visual)
    assert is_plain(resnet.visual)
    tiny_clip.visual.transformer.resblocks[0].mlp = nn.Identity()
    resnet.visual.layer4[0].bn1 = nn.Identity()
    assert not is_plain(tiny_clip.visual)
    assert not is_plain(resnet.visual)


def test_the_activation_and_the_heads_decide_too(encoded, tmp_path, tiny_clip, monkeypatch):
    """Neither is in the weights."""
    encoded()
    from_sizes = type(tiny_clip.sizes).from_state_dict.__func__
    for change in ({"activation": "gelu"}, {"vision_heads": 6}):
        other = classmethod(lambda cls, state, change=change: replace(from_sizes(cls, state), **change))
        with monkeypatch.context() as patch:
            patch.setattr(type(tiny_clip.sizes), "from_state_dict", other)
            assert encoded()[1] == 8, change
    assert encoded()[1] == 0


def test_features_that_cannot_be_kept_cost_no_result(encoded, tmp_path, monkeypatch):
    plain, _ = encoded()
    (file,) = (cache_folder() / "features").glob("*.pt")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="can't read image features"):
        again, made = encoded()
    assert (made, np.array_equal(again, plain)) == (8, True)
    assert encoded()[1] == 0  # mended
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    with pytest.warns(UserWarning, match="can't keep image features"):
        assert np.array_equal(encoded()[0], plain)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_blocks(encoded, monkeypatch):
    words = ("OPTIM.MAX_EPOCH", 1, "OPTIM.LR", 0.1)
    compiled, plain = (encoded("TRAINER.COMPILE", on, *words, trainer="MaPLe")[0] for on in (True, False))
    assert not np.array_equal(compiled, plain)  # rounds otherwise
    assert np.allclose(compiled, plain, atol=1e-3 * abs(plain).max())


def test_compiling_without_a_compiler(run, monkeypatch):
    monkeypatch.setenv("PATH", "")
    code, _, err = run("TRAINER.COMPILE", "True")
    assert code == 2
    assert "needs a C++ compiler" in err


@pytest.mark.parametrize("how", ["plain", "causal", "masked"])
def test_attention_in_bfloat16(how):
    """Learned in bfloat16 it is what it is in float32, but for rounding."""
    torch.manual_seed(0)
    mask = (
        torch.zeros(5, 5).masked_fill(torch.rand(5, 5) < 0.3, -torch.inf).fill_diagonal_(0) if how == "masked" else None
    )
    inputs = torch.randn(3, 2, 4, 5, 64).bfloat16()  # q, k, v (batch, heads, length, width)

    def outcome(dtype):
        q, k, v = parts = [part.to(dtype).requires_grad_() for part in inputs]
        attended = attend(q, k, v, None if mask is None else mask.to(dtype), causal=how == "causal")
        attended.square().sum().backward()
        return [attended, *(part.grad for part in parts)]

    for ours, theirs in zip(outcome(torch.bfloat16), outcome(torch.float32), strict=True):
        assert ours.dtype == torch.bfloat16
        assert relative(ours.float(), theirs) < 0.03


# ---- benchmarks ----


@pytest.mark.parametrize("trainer", measure.trainer_names())
def test_the_naive_way_gives_the_same(trainer, tiny_clip, monkeypatch):
    """What the benchmarks compare with computes the same, over 77 positions, and leaves nothing behind."""
    torch.manual_seed(0)
    method = measure.build_method(trainer, tiny_clip, 5, depth_words(trainer, 2))
    images, learnable = measure.images(tiny_clip, 3), list(method.parameters())
    lengths: list[int] = []
    forward = ResidualAttentionBlock.forward
    monkeypatch.setattr(ResidualAttentionBlock, "forward", lambda block, x: lengths.append(len(x)) or forward(block, x))

    def outcome():
        if learnable:
            return features_and_gradients(lambda: method(images), learnable)
        with torch.no_grad():
            return method(images), []

    fast = outcome()
    assert not lengths  # the fast way computes with the blocks' weights
    with measure.naive(method):
        slow = outcome()
    image_tokens = 4 + 1 + (len(method.image_prompts()[0]) if method.image_prompts() else 0)
    assert set(lengths) == {image_tokens} | ({77} if trainer != "LinearProbe" else set())
    check_same(fast, slow)
    lengths.clear()
    assert torch.equal(outcome()[0], fast[0])
    assert not lengths


@pytest.fixture
def tiny_backbone(tiny_clip, monkeypatch):
    """Words with which a benchmark takes the tiny CLIP."""
    monkeypatch.setitem(measure.SIZES, "tiny", tiny_clip.sizes)
    return ["--backbone", "tiny", "TRAINER.MAPLE.PROMPT_DEPTH", "2"]


@pytest.mark.parametrize("name", ["step_time", "test_time"])
def test_every_benchmark_ends_in_its_line(name, tiny_backbone, capsys):
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


@pytest.mark.parametrize(("trainer", "baseline"), [("MaPLe", "naive"), ("CoOp", "first")])
def test_the_end_to_end_benchmark(trainer, baseline, tiny_backbone, capsys):
    import end_to_end

    words = ["--trainer", trainer, "--baseline", baseline, "--classes", "4", "--batch", "2", *tiny_backbone]
    assert end_to_end.main([*words, "--shots", "1", "--test", "1"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["ratio"] == pytest.approx(line["baseline_seconds"] / line["seconds"])


def test_the_memory_benchmark(tiny_backbone, capsys):
    import memory

    assert memory.main(["--classes", "3", "--batch", "1", "--way", "fast", *tiny_backbone]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {"seconds", "peak_bytes", "needed_flops", "peak_flops"}  # of a process of its own
    assert min(found["seconds"], found["needed_flops"], found["peak_flops"]) > 0
