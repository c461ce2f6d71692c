"""Image transforms: all names, CLIP's test transform, and errors."""

import random

import numpy as np
import pytest
import torch
from conftest import config
from PIL import Image
from torchvision import transforms as T

from dassl.data.transforms import AVAILABLE_CHOICES, build_transform
from dassl.data.transforms.randaugment import OPERATIONS, RandAugment
from dassl.utils import InputError

IMAGE = Image.fromarray(np.random.RandomState(0).randint(0, 255, (50, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("name", AVAILABLE_CHOICES)
def test_each_transform_returns_the_input_size(name, is_train):
    cfg = config("INPUT.SIZE", (32, 32), "INPUT.TRANSFORMS", [name, "normalize"], "INPUT.CUTOUT_LEN", 8)
    image = IMAGE if name != "random_crop" else IMAGE.resize((40, 40))
    assert build_transform(cfg, is_train)(image).shape == (3, 32, 32)


def test_the_test_transform_is_clips_preprocessing():
    cfg = config("INPUT.SIZE", (32, 32), "INPUT.INTERPOLATION", "bicubic", "INPUT.TRANSFORMS", ["normalize"])
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    resize = T.Resize(32, interpolation=T.InterpolationMode.BICUBIC)
    expected = T.Compose([resize, T.CenterCrop(32), T.ToTensor(), T.Normalize(mean, std)])
    assert torch.equal(build_transform(cfg, is_train=False)(IMAGE), expected(IMAGE))


def test_unknown_names_are_errors():
    with pytest.raises(InputError, match="random_flip"):
        build_transform(config(), choices=["random_flop"])
    with pytest.raises(InputError, match="bicubic"):
        build_transform(config("INPUT.INTERPOLATION", "bicubical"))


def test_no_transform():
    assert build_transform(config("INPUT.NO_TRANSFORM", True)) is None


def test_randaugment_has_dassls_operations(monkeypatch):
    """At magnitude 10 of 30, each operation gives what PIL gives with Dassl's value."""
    gray, applied = Image.new("RGB", (40, 30), (100, 150, 200)), []
    monkeypatch.setattr(random, "random", lambda: 0.0)  # positive signs
    for operation in OPERATIONS:
        monkeypatch.setattr(random, "choices", lambda _, k, operation=operation: [operation] * k)
        applied.append(np.asarray(RandAugment(1, 10)(gray)))
    assert len(applied) == 16
    assert applied[2][0, 0].tolist() == [155, 105, 55]  # inverted
    assert applied[4][0, 0].tolist() == [96, 144, 200]  # the upper 5 bits
    assert applied[5][0, 0].tolist() == [155, 105, 55]  # inverted above 85.3
    assert applied[6][0, 0].tolist() == [119, 69, 19]  # 36 brighter, then inverted above 128
    assert applied[9][0, 0].tolist() == [70, 105, 140]  # brightness 0.7
    assert (applied[13] == (125, 123, 114)).all(-1).sum() in range(20, 14 * 14 + 1)  # cut out
    assert (applied[14] == 0).all((0, 2)).sum() == 33  # columns that were moved in
    assert (applied[15] == 0).all()


@pytest.mark.parametrize("m", [0, 30])
def test_randaugment_at_its_ends_keeps_the_size(m):
    assert {RandAugment(3, m)(IMAGE).size for _ in range(30)} == {IMAGE.size}
