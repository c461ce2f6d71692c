"""Meters, evaluation, config, files, checkpoints, registries and plugins."""

import os
import pickle
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import config

from dassl.config import clean_cfg, differences, get_cfg_default, merge_file, merge_words
from dassl.data.datasets import Datum
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.engine.trainer import AverageMeter, MetricMeter, SummaryWriter
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
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
    tools,
    write_json,
)


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


@pytest.mark.parametrize(("version", "expected"), [(2, 700), (1, 600)])
def test_free_memory_minds_the_limits_of_containers_and_jobs(version, expected, monkeypatch):
    base = "/sys/fs/cgroup"
    files = {
        2: {
            "/proc/self/cgroup": "0::/slurm/job",
            f"{base}/slurm/job/memory.max": "max",
            f"{base}/slurm/job/memory.current": "300",
            f"{base}/slurm/memory.max": "1000",
            f"{base}/slurm/memory.current": "350",
            f"{base}/slurm/memory.stat": "anon 300\ninactive_file 50\nactive_file 0",
        },
        1: {
            "/proc/self/cgroup": "3:cpu:/x\n2:memory:/docker/from-outside",
            f"{base}/memory/memory.limit_in_bytes": "1000",
            f"{base}/memory/memory.usage_in_bytes": "400",
        },
    }[version]
    monkeypatch.setattr(tools, "_lines", lambda path: files.get(str(path), "").splitlines())
    assert tools.free_memory() == expected
    files.clear()
    assert tools.free_memory() > 2**20  # no limit: the machine's
