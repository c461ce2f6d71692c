"""Image features of tests are cached: encoded once for all methods that use the frozen image tower."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import clip.vision
from clip.model import from_state_dict
from dassl.data import cache
from dassl.utils import cache_folder
from trainers.common.features import is_frozen_and_original
from trainers.coop import CoOp


@pytest.fixture
def encoded(run, tmp_path, monkeypatch):
    """encoded(*words) -> (logits, number of images that the tower encoded) of a run; the cache starts empty."""
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


def test_methods_with_a_frozen_image_tower_share_the_cache(encoded):
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
    assert encoded("OPTIM.MAX_EPOCH", 0, trainer="MaPLe")[1] == 8  # other image features
    assert encoded("OPTIM.MAX_EPOCH", 0, trainer="VPT")[1] == 8


def test_a_changed_weight_transform_or_image_is_encoded_again(encoded, own_data, tmp_path, tiny_weights):
    encoded()
    weights = dict(tiny_weights)
    weights["visual.proj"] = weights["visual.proj"] * 1.0001
    torch.save(weights, tmp_path / "other.pt")
    assert encoded("MODEL.BACKBONE.PATH", tmp_path / "other.pt")[1] == 8
    assert encoded("INPUT.INTERPOLATION", "nearest")[1] == 8
    assert encoded("DATALOADER.TEST.BATCH_SIZE", 3)[1] == 8  # may round differently
    assert encoded()[1] == 0
    for image in own_data.rglob("*.png"):
        image.touch()
    assert encoded()[1] == 8


@pytest.mark.parametrize("part", ["", "conv1", "ln_post", "transformer.resblocks.0.mlp"])
def test_features_of_a_hooked_tower_are_not_cached(part, encoded, monkeypatch):
    """With a hook anywhere in the tower, the cache is neither read nor written."""
    plain, _ = encoded()
    build = CoOp.build_method.__func__

    def hooked(cls, cfg, clip, *args):
        clip.visual.get_submodule(part).register_forward_hook(lambda *args: args[-1] * 2 + 1)
        return build(cls, cfg, clip, *args)

    with monkeypatch.context() as patch:
        patch.setattr(CoOp, "build_method", classmethod(hooked))
        changed = [encoded("OPTIM.MAX_EPOCH", 0, trainer="CoOp") for _ in range(2)]
    assert [made for _, made in changed] == [8, 8]
    assert np.array_equal(changed[0][0], changed[1][0])
    again, made = encoded()
    assert (made, np.array_equal(again, plain)) == (0, True)


def test_another_activation_or_number_of_heads_is_encoded_again(encoded, tmp_path, tiny_clip, monkeypatch):
    """The weights are the same."""
    encoded()
    from_sizes = type(tiny_clip.sizes).from_state_dict.__func__
    for change in ({"activation": "gelu"}, {"vision_heads": 6}):
        other = classmethod(lambda cls, state, change=change: replace(from_sizes(cls, state), **change))
        with monkeypatch.context() as patch:
            patch.setattr(type(tiny_clip.sizes), "from_state_dict", other)
            assert encoded()[1] == 8, change
    assert encoded()[1] == 0


def test_a_broken_cache_costs_no_result(encoded, tmp_path, monkeypatch):
    plain, _ = encoded()
    (file,) = (cache_folder() / "features").glob("*.pt")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="can't read image features"):
        again, made = encoded()
    assert (made, np.array_equal(again, plain)) == (8, True)
    assert encoded()[1] == 0  # the file was written again
    cache.save_cached("image features", f"features/{file.name}", torch.full((8, 64), torch.nan), torch.save)
    with pytest.warns(UserWarning, match="can't read image features"):
        again, made = encoded()
    assert (made, np.array_equal(again, plain)) == (8, True)
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    with pytest.warns(UserWarning, match="can't write image features"):
        assert np.array_equal(encoded()[0], plain)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_blocks_equal_uncompiled_ones(encoded, monkeypatch):
    words = ("OPTIM.MAX_EPOCH", 1, "OPTIM.LR", 0.1)
    compiled, plain = (encoded("TRAINER.COMPILE", on, *words, trainer="MaPLe")[0] for on in (True, False))
    assert not np.array_equal(compiled, plain)  # rounds differently
    assert np.allclose(compiled, plain, atol=1e-3 * abs(plain).max())


def test_compiling_without_a_compiler_is_refused(run, monkeypatch):
    monkeypatch.setenv("PATH", "")
    code, _, err = run("TRAINER.COMPILE", "True")
    assert code == 2
    assert "needs a C++ compiler" in err


def test_only_a_frozen_original_tower_is_cached(tiny_clip, resnet_weights):
    resnet = from_state_dict(resnet_weights)
    assert is_frozen_and_original(tiny_clip.visual)
    assert is_frozen_and_original(resnet.visual)
    tiny_clip.visual.proj.requires_grad_(True)
    resnet.visual.layer4[0].bn1 = nn.Identity()
    assert not is_frozen_and_original(tiny_clip.visual)
    assert not is_frozen_and_original(resnet.visual)
