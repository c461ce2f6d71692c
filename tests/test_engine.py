"""The engine: schedules, optimisers, samplers, transforms, meters, evaluation, config, checkpoints, loops."""

import math
import os
import pickle
import random
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_image
from PIL import Image
from torchvision import transforms as T

from dassl.config import clean_cfg, differences, get_cfg_default, merge_file, merge_words
from dassl.data import DatasetWrapper, build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import AVAILABLE_CHOICES, build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU, build_trainer
from dassl.engine.trainer import AverageMeter, MetricMeter, SimpleNet, SummaryWriter
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    InputError,
    Logger,
    Registry,
    check_isfile,
    collect_env_info,
    count_num_param,
    listdir_nohidden,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    open_specified_layers,
    read_image,
    read_json,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
    setup_logger,
    write_json,
)


def config(*words):
    cfg = get_cfg_default()
    merge_words(cfg, list(words))
    return cfg


def rates(*words, epochs=5):
    optim = config("OPTIM.NAME", "sgd", "OPTIM.LR", 0.0035, "OPTIM.MAX_EPOCH", epochs, *words).OPTIM
    model = torch.nn.Linear(1, 1)
    optimizer = build_optimizer(model, optim)
    scheduler = build_lr_scheduler(optimizer, optim)
    trace = []
    for _ in range(epochs):
        trace.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return trace


COSINE = ("OPTIM.LR_SCHEDULER", "cosine")


def test_schedules():
    warm = (*COSINE, "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
    assert rates(*warm) == pytest.approx([1e-5, 0.0035, 0.00316578, 0.00229078, 0.00120922], rel=1e-5)
    assert rates(*COSINE) == pytest.approx([0.0035 * (1 + math.cos(math.pi * e / 5)) / 2 for e in range(5)])
    linear = (*COSINE, "OPTIM.WARMUP_EPOCH", 2, "OPTIM.WARMUP_TYPE", "linear")
    assert rates(*linear)[:3] == pytest.approx([1e-5, 0.00175, 0.0035])
    assert rates("OPTIM.STEPSIZE", (2,)) == pytest.approx([0.0035, 0.0035, 0.00035, 0.00035, 0.000035])
    assert rates("OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", (1, 3))[3] == pytest.approx(0.000035)
    with pytest.raises(InputError, match="cosine"):
        rates("OPTIM.LR_SCHEDULER", "cosin")


def test_a_schedule_goes_on_after_a_resume():
    optim = config("OPTIM.NAME", "sgd", *COSINE, "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant").OPTIM
    for stop in range(1, 6):
        traces = []
        for resumed in (False, True):
            model = torch.nn.Linear(1, 1)
            optimizer = build_optimizer(model, optim)
            scheduler = build_lr_scheduler(optimizer, optim)
            trace = []
            for epoch in range(8):
                if resumed and epoch == stop:
                    states = optimizer.state_dict(), pickle.loads(pickle.dumps(scheduler.state_dict()))
                    optimizer = build_optimizer(model, optim)
                    scheduler = build_lr_scheduler(optimizer, optim)
                    optimizer.load_state_dict(states[0])
                    scheduler.load_state_dict(states[1])
                trace.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            traces.append(trace)
        assert traces[0] == traces[1]


@pytest.mark.parametrize("name", ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"])
def test_optimizers(name):
    model = torch.nn.Linear(2, 1)
    optimizer = build_optimizer(model, config("OPTIM.NAME", name).OPTIM)
    before = model.weight.detach().clone()
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert not torch.equal(model.weight, before)
    assert optimizer.param_groups[0]["weight_decay"] == 5e-4


def test_staged_learning_rates():
    net = torch.nn.Sequential()
    net.add_module("old", torch.nn.Linear(1, 1))
    net.add_module("new", torch.nn.Linear(1, 1))
    optim = config("OPTIM.STAGED_LR", True, "OPTIM.NEW_LAYERS", ("new",), "OPTIM.LR", 1).OPTIM
    assert [g["lr"] for g in build_optimizer(net, optim).param_groups] == [0.1, 1.0]
    with pytest.raises(InputError, match="adamw"):
        build_optimizer(net, config("OPTIM.NAME", "adamx").OPTIM)


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


def test_meters():
    meter = MetricMeter()
    meter.update({"loss": torch.tensor(1.0)})
    meter.update({"loss": 2.0})
    assert str(meter) == "loss 2.0000 (1.5000)"
    meter.update(None)
    with pytest.raises(TypeError):
        meter.update(3)
    ema = AverageMeter(ema=True)
    ema.update(1)
    ema.update(2)
    assert ema.avg == pytest.approx(1.1)
    assert issubclass(SummaryWriter, object)


def test_accuracy():
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    top1, top2 = compute_accuracy((logits, None), torch.tensor([0, 1]), topk=(1, 2))
    assert (top1.item(), top2.item()) == (50.0, 100.0)


def test_evaluator_prints_what_parsers_read(tmp_path, capsys):
    words = ("TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path))
    evaluator = build_evaluator(config(*words), lab2cname={0: "cat", 1: "dog"})
    evaluator.process(torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]))
    results = evaluator.evaluate()
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    assert results["accuracy"] == pytest.approx(200 / 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "=> result",
        "* total: 3",
        "* correct: 2",
        "* accuracy: 66.7%",
        "* error: 33.3%",
        "* macro_f1: 66.7%",
    ]
    assert "* class: 1 (dog)\ttotal: 2\tcorrect: 1\tacc: 50.0%" in lines
    assert "* average: 75.0%" in lines
    assert torch.load(tmp_path / "cmat.pt")[1].tolist() == [0.5, 0.5]
    assert evaluator.record()["per_class"] == {"cat": 100.0, "dog": 50.0}
    with pytest.raises(InputError, match="Classification"):
        build_evaluator(config("TEST.EVALUATOR", "Classificatoin"))


def test_registry():
    registry = Registry("THING")

    @registry.register()
    class Thing:
        pass

    assert registry.get("Thing") is Thing
    with pytest.raises(KeyError):
        registry.register(type("Thing", (), {}))
    other = type("Thing", (), {})
    registry.register(other, force=True)
    assert registry.get("Thing") is other
    assert registry.registered_names() == ["Thing"]


def test_config_errors_name_the_key(tmp_path):
    cfg = get_cfg_default()
    with pytest.raises(InputError, match=r"OPTIM\.LRX.*Did you mean OPTIM\.LR"):
        merge_words(cfg, ["OPTIM.LRX", "1"])
    with pytest.raises(InputError, match="takes a float"):
        merge_words(cfg, ["OPTIM.LR", "fast"])
    with pytest.raises(InputError, match="stands alone"):
        merge_words(cfg, ["OPTIM.LR"])
    merge_words(cfg, ["OPTIM.LR", "1", "INPUT.SIZE", "(64,64)", "DATASET.NAME", "123", "SEED", "0"])
    assert (cfg.OPTIM.LR, cfg.INPUT.SIZE, cfg.DATASET.NAME, cfg.SEED) == (1.0, (64, 64), "123", 0)
    (tmp_path / "a.yaml").write_text("OPTIM:\n  LR: 1e-5\n  NMAE: sgd\n")
    with pytest.raises(InputError, match=r"a\.yaml"):
        merge_file(cfg, tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"a\.yaml"):
        merge_file(cfg, tmp_path / "b.yaml")
    (tmp_path / "b.yaml").write_text("OPTIM: [")
    with pytest.raises(InputError, match="not valid YAML"):
        merge_file(cfg, tmp_path / "b.yaml")


def test_configs_are_compared_but_for_what_cant_change_a_result(tmp_path):
    cfg = config("OPTIM.LR", 0.1, "DATALOADER.NUM_WORKERS", 1)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    merge_words(cfg, ["DATALOADER.NUM_WORKERS", "2"])
    assert differences(cfg, tmp_path / "config.yaml") == []
    merge_words(cfg, ["OPTIM.LR", "0.2"])
    assert differences(cfg, tmp_path / "config.yaml") == ["OPTIM.LR (0.1 there, 0.2 now)"]
    cfg.TRAINER.A, cfg.TRAINER.B = type(cfg)({"X": 1}), type(cfg)({"X": 1})
    clean_cfg(cfg, "a")
    assert set(cfg.TRAINER) == {"NAME", "CONFIG", "A"}


def test_tools(tmp_path):
    write_json({"a": [1]}, tmp_path / "deep" / "x.json")
    assert read_json(tmp_path / "deep" / "x.json") == {"a": [1]}
    assert listdir_nohidden(tmp_path / "deep") == ["x.json"]
    mkdir_if_missing("")
    with pytest.warns(UserWarning, match="No file"):
        assert not check_isfile(tmp_path / "nothing")
    set_random_seed(3)
    first = random.random(), np.random.rand(), torch.rand(1).item()
    set_random_seed(3)
    assert first == (random.random(), np.random.rand(), torch.rand(1).item())
    assert "torch" in collect_env_info()
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        read_image(str(tmp_path / "bad.jpg"))


def test_logger_appends(tmp_path):
    console = sys.stdout
    for text in ("one", "two"):
        setup_logger(tmp_path)
        print(text)
        assert isinstance(sys.stdout, Logger)
        sys.stdout.close()
        sys.stdout = console
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


# ---- checkpoints ----


def test_checkpoints(tmp_path):
    model = torch.nn.Linear(2, 1)
    state = {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}
    save_checkpoint(state, tmp_path)
    save_checkpoint(state | {"epoch": 1}, tmp_path, is_best=True)
    assert (tmp_path / "checkpoint").read_text().strip() == "model.pth.tar-3"  # best doesn't move it
    other = torch.nn.Linear(2, 1)
    assert resume_from_checkpoint(tmp_path, other) == 3
    assert torch.equal(other.weight, model.weight)
    with pytest.raises(InputError, match="another model"):
        resume_from_checkpoint(tmp_path, torch.nn.Linear(3, 1))
    fresh = torch.nn.Linear(2, 1)
    load_pretrained_weights(fresh, tmp_path / "model.pth.tar-3")
    assert torch.equal(fresh.weight, model.weight)
    with pytest.warns(UserWarning, match="no weight"):
        load_pretrained_weights(torch.nn.Linear(5, 5), tmp_path / "model.pth.tar-3")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "gone")
    with pytest.raises(ValueError, match="None"):
        load_checkpoint(None)
    assert count_num_param(model) == count_num_param(params=model.parameters()) == 3
    net = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)})
    open_specified_layers(net, "a")
    assert [p.requires_grad for p in net.parameters()] == [True, True, False, False]


class LiveScheduler:
    """Stands for the scheduler objects that the original pickles."""

    def __init__(self):
        self.state = {"last_epoch": 5}


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    tensor = torch.arange(3.0)
    for legacy in (True, False):
        content = {"state_dict": {"ctx": tensor}, "epoch": 5, "scheduler": {"s": LiveScheduler()}, "evil": Evil()}
        torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=not legacy)
        loaded = load_checkpoint(tmp_path / "c.pt")
        assert torch.equal(loaded["state_dict"]["ctx"], tensor)
        assert loaded["epoch"] == 5
        assert not isinstance(loaded["scheduler"]["s"], LiveScheduler)
        assert not (tmp_path / "ran").exists()
    (tmp_path / "cut.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut\.pt"):
        load_checkpoint(tmp_path / "cut.pt")


# ---- loaders and loops ----


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


def test_unknown_trainers_and_broken_plugins_are_told(tmp_path, monkeypatch):
    from dassl.utils import load_plugins, plugins

    load_plugins("trainers")
    with pytest.raises(ValueError, match=r"Did you mean MaPLe.*ZeroshotCLIP"):
        build_trainer(config("TRAINER.NAME", "MaPLE"))
    package = tmp_path / "more_trainers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("import no_such_package\n\nclass Broken:\n    pass\n")
    (package / "clash.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\n\n@TRAINER_REGISTRY.register()\nclass MaPLe:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_failures", {})
    load_plugins("more_trainers")
    with pytest.raises(InputError, match=r"broken\.py.*no_such_package"):
        build_trainer(config("TRAINER.NAME", "Broken"))
    with pytest.raises(InputError, match=r"clash\.py.*registered"):
        build_trainer(config("TRAINER.NAME", "MaPLe"))
    assert "ZeroshotCLIP" in TRAINER_REGISTRY.registered_names()


def test_datum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssertionError):
            Datum("nowhere.jpg")
    item = Datum(__file__, 3, 1, "name")
    assert (item.impath, item.label, item.domain, item.classname) == (__file__, 3, 1, "name")
    assert pickle.loads(pickle.dumps(item)).label == 3
    assert vars(item) == {"_impath": __file__, "_label": 3, "_domain": 1, "_classname": "name"}
