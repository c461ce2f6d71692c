"""Image transforms: all names, CLIP's test transform, and errors."""

import numpy as np
import pytest
import torch
from conftest import config
from PIL import Image
from torchvision import transforms as T

from dassl.data.transforms import AVAILABLE_CHOICES, build_transform
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
