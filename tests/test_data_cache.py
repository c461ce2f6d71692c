"""Caches of decoded and of resized images: equal to the bit, each file decoded once, errors only warn."""

import copy
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config, make_image
from torchvision import transforms as T

from dassl.data import DatasetWrapper, build_data_loader, cache
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.utils import InputError, cache_folder, read_image


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Seven images, with an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(7):
        make_image(tmp_path / f"{number}.png", (30 * number, 90, 200 - 20 * number), number)
    return [Datum(str(tmp_path / f"{number}.png"), label=0) for number in range(7)]


def settings(*overrides):
    transforms = ["random_resized_crop", "random_flip", "normalize"]
    size = ["INPUT.SIZE", (16, 16), "INPUT.TRANSFORMS", transforms, "INPUT.INTERPOLATION", "bicubic"]
    return config("SEED", 1, *size, *overrides)


def epochs(cfg, photos, count):
    """Yield the images of each of `count` training epochs, (7, 3, 16, 16)."""
    loader = build_data_loader(cfg, "SequentialSampler", photos, 7, tfm=build_transform(cfg))
    for epoch in range(count):
        loader.dataset.epoch = epoch
        yield torch.cat([batch["img"] for batch in loader])


def test_a_broken_cache_only_warns(photos, tmp_path, monkeypatch):
    cfg = settings("TEST.CACHE_IMAGES", True)
    data = DatasetWrapper(cfg, photos, build_transform(cfg, is_train=False))
    plain = DatasetWrapper(settings(), photos, data.transform)[0]["img"]
    data[0]
    (file,) = (cache_folder() / "images").rglob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="can't read resized images from the cache"):
        assert torch.equal(data[0]["img"], plain)
    assert np.load(file).shape == (16, 16, 3)  # written again
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    with pytest.warns(UserWarning, match="can't write resized images to the cache"):
        assert torch.equal(data[0]["img"], plain)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="only forked workers share the cache")
@pytest.mark.parametrize("workers", [0, 2])
def test_training_images_are_decoded_once(workers, photos):
    overrides = ["DATALOADER.NUM_WORKERS", workers, "OPTIM.MAX_EPOCH", 3]
    plain = list(epochs(settings("DATALOADER.DECODED_GB", 0.0, *overrides), photos, 3))
    some = list(epochs(settings("DATALOADER.DECODED_GB", 3 * 3 * 32 * 40 / 2**30, *overrides), photos, 3))  # three fit
    cached = epochs(settings(*overrides), photos, 3)
    first = next(cached)
    for photo in photos:
        os.remove(photo.impath)
    assert torch.equal(torch.stack(plain), torch.stack(some))
    assert torch.equal(torch.stack(plain), torch.stack([first, *cached]))


def test_decoded_images_stay_within_the_budget(photos):
    decoded = cache.DecodedImageCache([photo.impath for photo in photos], 3 * 3 * 32 * 40)
    for _ in range(2):
        for number, photo in enumerate(photos):
            assert decoded.read(number, photo.impath).size == (40, 32)
    assert (decoded._places[:, 1] > 0).sum() == 3
    with pytest.raises(InputError, match="No such file"):
        decoded.read(6, "nowhere.png")
    assert decoded.read(0, photos[1].impath) == read_image(photos[1].impath)  # another file than the cached one
    assert copy.deepcopy(decoded).read(0, photos[0].impath) == read_image(photos[0].impath)


def test_test_images_are_resized_once(photos, monkeypatch):
    plain_cfg, cfg = settings(), settings("TEST.CACHE_IMAGES", True)
    transform = build_transform(cfg, is_train=False)
    plain = [DatasetWrapper(plain_cfg, photos, transform)[number]["img"] for number in range(7)]
    assert not (cache_folder() / "images").exists()
    data = DatasetWrapper(cfg, photos, transform)
    assert all(torch.equal(data[number]["img"], plain[number]) for number in range(7))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", None)  # reading an image would fail
        assert all(torch.equal(data[number]["img"], plain[number]) for number in range(7))
        larger = build_transform(settings("INPUT.SIZE", (24, 24)), is_train=False)
        with pytest.raises(TypeError):
            DatasetWrapper(cfg, photos, larger)[0]
    changed = Path(photos[0].impath)
    make_image(changed, (0, 0, 0), 1)
    assert not torch.equal(data[0]["img"], plain[0])  # a changed file is read again
    changed.unlink()
    with pytest.raises(InputError, match="can't read the image"):
        data[0]


def test_only_known_deterministic_transforms_are_cached(photos):
    cfg = settings("TEST.CACHE_IMAGES", True)
    assert not cache.is_cacheable(build_transform(cfg, is_train=True))
    assert not cache.is_cacheable(lambda image: image)
    assert not cache.is_cacheable(None)
    item = DatasetWrapper(cfg, photos, lambda image: np.asarray(image))[0]
    assert item["img"].shape == (32, 40, 3)
    unknown = T.Compose([T.Resize(16), T.CenterCrop(16), T.ToTensor(), T.GaussianBlur(3)])
    assert not cache.is_cacheable(unknown)  # its repr may not contain all its parameters
    assert not (cache_folder() / "images").exists()
