"""Images that are kept, decoded in memory or resized on disk: the same to the bit, and not read twice."""

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
    """Seven images of a data set; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(7):
        make_image(tmp_path / f"{number}.png", (30 * number, 90, 200 - 20 * number), number)
    return [Datum(str(tmp_path / f"{number}.png"), label=0) for number in range(7)]


def settings(*words):
    transforms = ["random_resized_crop", "random_flip", "normalize"]
    size = ["INPUT.SIZE", (16, 16), "INPUT.TRANSFORMS", transforms, "INPUT.INTERPOLATION", "bicubic"]
    return config("SEED", 1, *size, *words)


def epochs(cfg, photos, count):
    """All images of so many epochs of training, (count, 7, 3, 16, 16)."""
    loader = build_data_loader(cfg, "SequentialSampler", photos, 7, tfm=build_transform(cfg))
    for epoch in range(count):
        loader.dataset.epoch = epoch
        yield torch.cat([batch["img"] for batch in loader])


def test_a_cache_that_fails_costs_no_result(photos, tmp_path, monkeypatch):
    """It can't be written; what is in it can't be read."""
    cfg = settings("TEST.CACHE_IMAGES", True)
    data = DatasetWrapper(cfg, photos, build_transform(cfg, is_train=False))
    plain = DatasetWrapper(settings(), photos, data.transform)[0]["img"]
    data[0]
    (file,) = (cache_folder() / "images").rglob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="can't read resized images"):
        assert torch.equal(data[0]["img"], plain)
    assert np.load(file).shape == (16, 16, 3)  # mended
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    with pytest.warns(UserWarning, match="can't keep resized images"):
        assert torch.equal(data[0]["img"], plain)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="nothing is kept for workers apart")
@pytest.mark.parametrize("workers", [0, 2])
def test_training_images_are_decoded_once(workers, photos):
    words = ["DATALOADER.NUM_WORKERS", workers, "OPTIM.MAX_EPOCH", 3]
    plain = list(epochs(settings("DATALOADER.DECODED_GB", 0.0, *words), photos, 3))
    some = list(epochs(settings("DATALOADER.DECODED_GB", 3 * 3 * 32 * 40 / 2**30, *words), photos, 3))  # three fit
    keeping = epochs(settings(*words), photos, 3)
    first = next(keeping)
    for photo in photos:
        os.remove(photo.impath)
    assert torch.equal(torch.stack(plain), torch.stack(some))
    assert torch.equal(torch.stack(plain), torch.stack([first, *keeping]))


def test_no_more_memory_is_taken_than_given(photos):
    decoded = cache.DecodedImages([photo.impath for photo in photos], 3 * 3 * 32 * 40)
    for _ in range(2):
        for number, photo in enumerate(photos):
            assert decoded.read(number, photo.impath).size == (40, 32)
    assert (decoded._places[:, 1] > 0).sum() == 3
    with pytest.raises(InputError, match="No such file"):
        decoded.read(6, "nowhere.png")
    assert decoded.read(0, photos[1].impath) == read_image(photos[1].impath)  # not what is kept under that number
    assert copy.deepcopy(decoded).read(0, photos[0].impath) == read_image(photos[0].impath)


def test_test_images_are_resized_once(photos, monkeypatch):
    plain_cfg, cfg = settings(), settings("TEST.CACHE_IMAGES", True)
    transform = build_transform(cfg, is_train=False)
    plain = [DatasetWrapper(plain_cfg, photos, transform)[number]["img"] for number in range(7)]
    assert not (cache_folder() / "images").exists()
    data = DatasetWrapper(cfg, photos, transform)
    assert all(torch.equal(data[number]["img"], plain[number]) for number in range(7))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", None)  # nobody reads the image itself
        assert all(torch.equal(data[number]["img"], plain[number]) for number in range(7))
        larger = build_transform(settings("INPUT.SIZE", (24, 24)), is_train=False)
        with pytest.raises(TypeError):
            DatasetWrapper(cfg, photos, larger)[0]
    changed = Path(photos[0].impath)
    make_image(changed, (0, 0, 0), 1)
    assert not torch.equal(data[0]["img"], plain[0])  # a changed image is noticed
    changed.unlink()
    with pytest.raises(InputError, match="can't read the image"):
        data[0]


def test_a_test_transform_with_chance_or_of_another_kind_is_never_kept(photos):
    cfg = settings("TEST.CACHE_IMAGES", True)
    assert not cache.can_keep(build_transform(cfg, is_train=True))
    assert not cache.can_keep(lambda image: image)
    assert not cache.can_keep(None)
    item = DatasetWrapper(cfg, photos, lambda image: np.asarray(image))[0]
    assert item["img"].shape == (32, 40, 3)
    unknown = T.Compose([T.Resize(16), T.CenterCrop(16), T.ToTensor(), T.GaussianBlur(3)])
    assert not cache.can_keep(unknown)  # of what isn't ours `repr` may not say everything
    assert not (cache_folder() / "images").exists()
