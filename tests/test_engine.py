"""Samplers, transforms, loaders and the training loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import config, make_image
from PIL import Image
from torchvision import transforms as T

from dassl.data import DatasetWrapper, build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import AVAILABLE_CHOICES, build_transform
from dassl.engine import TrainerX, TrainerXU
from dassl.engine.trainer import SimpleNet
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    InputError,
    load_checkpoint,
)


def test_samplers():
    items = [SimpleNamespace(label=i % 3, domain=i % 2) for i in range(24)]
    for name, n in (("RandomSampler", 24), ("SequentialSampler", 24)):
        assert sorted(build_sampler(name, data_source=items)) == list(range(n))
    domains = list(build_sampler("RandomDomainSampler", data_source=items, batch_size=4, n_domain=2))
    assert all(sum(items[i].domain for i in domains[b : b + 4]) == 2 for b in range(0, len(domains), 4))
    classes = list(build_sampler("RandomClassSampler", data_source=items, batch_size=4, n_ins=2))
    assert all(len({items[i].label for i in classes[b : b + 4]}) == 2 for b in range(0, len(classes), 4))
    sequential = build_sampler("SeqDomainSampler", data_source=items, batch_size=4)
    assert len(list(sequential)) == len(sequential) == 24
    with pytest.raises(ValueError, match="RandomSampler"):
        build_sampler("RandomSample", data_source=items)


IMAGE = Image.fromarray(np.random.RandomState(0).randint(0, 255, (50, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", AVAILABLE_CHOICES)
def test_transforms(name):
    cfg = config("INPUT.SIZE", (32, 32), "INPUT.TRANSFORMS", [name, "normalize"], "INPUT.CUTOUT_LEN", 8)
    image = IMAGE if name != "random_crop" else IMAGE.resize((40, 40))
    for is_train in (True, False):
        assert build_transform(cfg, is_train)(image).shape == (3, 32, 32)


def test_the_test_transform_is_torchvisions():
    cfg = config("INPUT.SIZE", (32, 32), "INPUT.INTERPOLATION", "bicubic", "INPUT.TRANSFORMS", ["normalize"])
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    resize = T.Resize(32, interpolation=T.InterpolationMode.BICUBIC)
    clips = T.Compose([resize, T.CenterCrop(32), T.ToTensor(), T.Normalize(mean, std)])
    assert torch.equal(build_transform(cfg, is_train=False)(IMAGE), clips(IMAGE))
    with pytest.raises(InputError, match="random_flip"):
        build_transform(cfg, choices=["random_flop"])
    assert build_transform(config("INPUT.NO_TRANSFORM", True)) is None


class Two(DatasetBase):
    """Two classes of made images; `unlabelled` too."""

    folder = None

    def __init__(self, cfg):
        items = [
            Datum(str(path), int(path.stem) % 2, classname=f"c{int(path.stem) % 2}")
            for path in sorted(self.folder.iterdir())
        ]
        super().__init__(train_x=items, train_u=items[:6], val=items[:4], test=items)


@pytest.fixture
def two(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        make_image(folder / f"{number}.png", (250 * (number % 2), 20 * number, 30), number)
    monkeypatch.setattr(Two, "folder", folder)
    monkeypatch.setitem(DATASET_REGISTRY._objects, "Two", Two)
    words = ["DATASET.NAME", "Two", "INPUT.SIZE", (8, 8), "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "SEED", 1]
    words += ["DATALOADER.NUM_WORKERS", 0, "OPTIM.MAX_EPOCH", 3, "OPTIM.NAME", "sgd", "OPTIM.LR", 0.1, "VERBOSE", False]
    words += ["INPUT.TRANSFORMS", ["random_resized_crop", "random_flip", "normalize"]]
    return lambda *more: config(*words, "OUTPUT_DIR", str(tmp_path / "out"), *more)


def test_items_of_a_loader(two):
    cfg = two("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)
    data = Two(cfg)
    loader = build_data_loader(cfg, "RandomSampler", data.train_x, 4, tfm=build_transform(cfg))
    batch = next(iter(loader))
    assert set(batch) == {"label", "domain", "impath", "index", "img", "img0"}
    assert [x.shape for x in batch["img"]] == [(4, 3, 8, 8)] * 2
    assert not torch.equal(*batch["img"])
    assert len(loader) == 2  # the last two items make no whole batch
    pair = DatasetWrapper(cfg, data.test, transform=[build_transform(cfg, False)] * 2)[0]
    assert torch.equal(pair["img"], pair["img2"])
    assert isinstance(DatasetWrapper(two(), data.test)[0]["img"], Image.Image)
    with pytest.raises(ValueError, match="K_TRANSFORMS"):
        DatasetWrapper(cfg, data.train_x, is_train=True)
    with pytest.raises(InputError, match="no images"):
        build_data_loader(cfg, data_source=[])


@pytest.mark.parametrize("workers", [1, 2])
def test_augmentation_depends_on_seed_epoch_and_item_alone(two, workers):
    def batches(count, epoch):
        cfg = two("DATALOADER.NUM_WORKERS", count)
        loader = build_data_loader(cfg, "SequentialSampler", Two(cfg).train_x, 4, tfm=build_transform(cfg))
        loader.dataset.epoch = epoch
        return torch.cat([batch["img"] for batch in loader])

    assert torch.equal(batches(0, 0), batches(workers, 0))
    assert not torch.equal(batches(0, 0), batches(0, 1))


class Tiny(TrainerX):
    """A linear layer over pixels."""

    def build_model(self):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("tiny", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label, _ = self.parse_batch_train(batch)
        loss = torch.nn.functional.cross_entropy(self.model(image), label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}


class TinyXU(TrainerXU):
    build_model = Tiny.build_model

    def forward_backward(self, batch_x, batch_u):
        image, label, unlabelled = self.parse_batch_train(batch_x, batch_u)
        assert unlabelled.shape == image.shape
        loss = torch.nn.functional.cross_entropy(self.model(image), label)
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}


class Cut(Exception):
    pass


@pytest.mark.parametrize("final", ["last_step", "best_val"])
def test_a_resume_changes_nothing(two, tmp_path, final, capsys):
    words = ("TEST.FINAL_MODEL", final)
    whole = Tiny(two(*words))
    whole.train()
    for stop in (1, 2):
        folder = ("OUTPUT_DIR", str(tmp_path / f"cut{stop}"))
        cut = Tiny(two(*words, *folder))
        run_epoch = cut.run_epoch

        def run_until(cut=cut, run_epoch=run_epoch, stop=stop):
            if cut.epoch == stop:
                raise Cut
            run_epoch()

        cut.run_epoch = run_until
        with pytest.raises(Cut):
            cut.train()
        torch.rand(7)  # another process has another state
        resumed = Tiny(two(*words, *folder))
        resumed.train()
        assert resumed.start_epoch == stop
        assert torch.equal(resumed.model[1].weight, whole.model[1].weight)
        assert resumed.best_result == whole.best_result
        metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("out", f"cut{stop}")]
        assert metrics[0] == metrics[1]
    kept = sorted(path.name for path in (tmp_path / "out/tiny").iterdir())
    best = ["model-best.pth.tar"] if final == "best_val" else []
    assert kept == sorted(["checkpoint", "model.pth.tar-3", *best])
    assert "Finish training\nFinished training\n" in capsys.readouterr().out


def test_checkpoints_that_are_kept(two, tmp_path):
    trainer = Tiny(two("TRAIN.CHECKPOINT_FREQ", 2))
    trainer.train()
    kept = sorted(path.name for path in (tmp_path / "out/tiny").glob("model*"))
    assert kept == ["model.pth.tar-2", "model.pth.tar-3"]
    trainer.load_model(str(tmp_path / "out"), epoch=2)
    with pytest.raises(FileNotFoundError, match=r"no model\.pth\.tar-1 .*model\.pth\.tar-2, model\.pth\.tar-3"):
        trainer.load_model(str(tmp_path / "out"), epoch=1)
    state = load_checkpoint(tmp_path / "out/tiny/model.pth.tar-3")
    assert set(state) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}


def test_unlabelled_batches_side_by_side(two):
    for count, batches in (("train_x", 2), ("train_u", 1), ("smaller_one", 1)):
        trainer = TinyXU(
            two("TRAIN.COUNT_ITER", count, "OUTPUT_DIR", f"{two().OUTPUT_DIR}/{count}", "TEST.NO_TEST", True)
        )
        trainer.train()
        assert trainer.num_batches == batches


def test_simple_net_trains_by_default(two, monkeypatch):
    cfg = two("MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.PRETRAINED", False)
    net = SimpleNet(cfg, cfg.MODEL, 2)
    logits, features = net(torch.zeros(2, 3, 32, 32), return_feature=True)
    assert (logits.shape, features.shape, net.fdim) == ((2, 2), (2, 512), 512)
    words = ("MODEL.HEAD.NAME", "mlp", "MODEL.HEAD.HIDDEN_LAYERS", (16,))
    cfg = two("MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.PRETRAINED", False, *words)
    assert SimpleNet(cfg, cfg.MODEL, 2).fdim == 16
    with pytest.raises(InputError, match="resnet18"):
        SimpleNet(cfg, two("MODEL.BACKBONE.NAME", "resnet19").MODEL, 2)


def test_a_loss_that_is_no_number_stops_the_run(two):
    trainer = Tiny(two())
    with pytest.raises(FloatingPointError):
        trainer.model_backward_and_update(torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(KeyError):
        trainer.set_model_mode("sleep")
    with pytest.raises(InputError, match="tiny"):
        trainer.get_model_names(["huge"])
    with pytest.raises(KeyError):
        trainer.register_model("tiny", trainer.model)
