"""Samplers, items, loaders, and the data manager."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from conftest import config
from PIL import Image
from tiny_engine import TwoClasses
from torch.utils.data import DataLoader, RandomSampler

from dassl.data import DataManager, DatasetWrapper, build_data_loader
from dassl.data.data_manager import reads_in_order
from dassl.data.datasets import Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.utils import InputError

# ---- samplers ----

ITEMS = [SimpleNamespace(label=i % 3, domain=i % 2) for i in range(24)]


@pytest.mark.parametrize("name", ["RandomSampler", "SequentialSampler", "SeqDomainSampler"])
def test_samplers_read_each_item_once(name):
    sampler = build_sampler(name, data_source=ITEMS, batch_size=4)
    assert sorted(sampler) == list(range(24))
    assert len(sampler) == 24


def test_group_samplers_fill_batches_with_equal_parts():
    domains = list(build_sampler("RandomDomainSampler", data_source=ITEMS, batch_size=4, n_domain=2))
    assert all(sum(ITEMS[i].domain for i in domains[b : b + 4]) == 2 for b in range(0, len(domains), 4))
    classes = list(build_sampler("RandomClassSampler", data_source=ITEMS, batch_size=4, n_ins=2))
    assert all(len({ITEMS[i].label for i in classes[b : b + 4]}) == 2 for b in range(0, len(classes), 4))


def test_sampler_errors():
    with pytest.raises(InputError, match="RandomSampler"):
        build_sampler("RandomSample", data_source=ITEMS)
    with pytest.raises(InputError, match="3 must divide 4"):
        build_sampler("RandomDomainSampler", data_source=ITEMS, batch_size=4, n_domain=3)


# ---- items ----


def test_datum_has_the_fields_of_published_caches(recwarn):
    item = Datum(__file__, 3, 1, "name")
    assert (item.impath, item.label, item.domain, item.classname) == (__file__, 3, 1, "name")
    assert pickle.loads(pickle.dumps(item)).label == 3
    assert vars(item) == {"_impath": __file__, "_label": 3, "_domain": 1, "_classname": "name"}
    with pytest.raises(AssertionError, match="no such image"):
        Datum("nowhere.jpg")


def test_items_of_a_training_loader(make_config):
    cfg = make_config("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)
    loader = build_data_loader(cfg, "RandomSampler", TwoClasses(cfg).train_x, 4, tfm=build_transform(cfg))
    batch = next(iter(loader))
    assert set(batch) == {"label", "domain", "impath", "index", "img", "img0"}
    assert [x.shape for x in batch["img"]] == [(4, 3, 8, 8)] * 2
    assert not torch.equal(*batch["img"])
    assert len(loader) == 2  # the last two of ten items don't fill a batch


def test_items_with_several_transforms_or_none(make_config):
    cfg = make_config()
    items = TwoClasses(cfg).test
    pair = DatasetWrapper(cfg, items, transform=[build_transform(cfg, False)] * 2)[0]
    assert torch.equal(pair["img"], pair["img2"])
    assert isinstance(DatasetWrapper(cfg, items)[0]["img"], Image.Image)
    with pytest.raises(ValueError, match="K_TRANSFORMS"):
        DatasetWrapper(make_config("DATALOADER.K_TRANSFORMS", 2), items, is_train=True)


def test_a_loader_without_items_is_an_error():
    with pytest.raises(InputError, match="no images for training"):
        build_data_loader(config(), data_source=[])


@pytest.mark.parametrize("workers", [1, 2])
def test_augmentation_depends_on_seed_epoch_and_item_only(make_config, workers):
    def batches(count, epoch):
        cfg = make_config("DATALOADER.NUM_WORKERS", count)
        loader = build_data_loader(cfg, "SequentialSampler", TwoClasses(cfg).train_x, 4, tfm=build_transform(cfg))
        loader.dataset.epoch = epoch
        return torch.cat([batch["img"] for batch in loader])

    assert torch.equal(batches(0, 0), batches(workers, 0))
    assert not torch.equal(batches(0, 0), batches(0, 1))


# ---- loaders ----


class Changed(DatasetWrapper):
    """A user's wrapper whose items differ from its `data_source`."""

    def __getitem__(self, index):
        return super().__getitem__(index) | {"label": 0}


class Extended(DatasetWrapper):
    """A user's wrapper that only adds to the items, and says so."""

    follows_data_source = True

    def __getitem__(self, index):
        return super().__getitem__(index) | {"more": 1}


class Unchanged(DatasetWrapper):
    """A user's wrapper with another constructor."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize(
    ("wrapper", "expected"), [(DatasetWrapper, True), (Unchanged, True), (Extended, True), (Changed, False)]
)
def test_a_wrapper_tells_whether_it_follows_its_data_source(make_config, wrapper, expected):
    loader = DataManager(make_config(), dataset_wrapper=wrapper).test_loader
    assert reads_in_order(loader) is expected


def test_loaders_that_do_not_read_in_order(make_config):
    data = DataManager(make_config()).test_loader.dataset
    assert not reads_in_order(DataLoader(data, batch_size=2, sampler=RandomSampler(data)))
    assert not reads_in_order(DataLoader(data, batch_sampler=[[1, 0], [2, 3]]))
    assert not reads_in_order(DataLoader(data, batch_size=4, drop_last=True))
    assert not reads_in_order(DataLoader(data, batch_size=4, collate_fn=list))
    assert not reads_in_order(DataManager(make_config("DATALOADER.K_TRANSFORMS", 2)).train_loader_x)
    assert not reads_in_order(DataLoader([1, 2], batch_size=2))


def test_the_data_manager_prints_the_sizes(make_config, capsys):
    manager = DataManager(make_config("VERBOSE", True))
    assert (manager.num_classes, manager.lab2cname) == (2, {0: "c0", 1: "c1"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Loading dataset: TwoClasses"
    assert [line.split() for line in lines[2:-1]] == [
        ["Dataset", "TwoClasses"],
        ["#", "classes", "2"],
        ["#", "train_x", "10"],
        ["#", "train_u", "6"],
        ["#", "val", "4"],
        ["#", "test", "10"],
    ]
