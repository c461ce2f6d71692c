"""Every registered trainer, and every toy method, does whole runs on the pretend device, in every precision."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from conftest import node_of, relative
from tiny_methods import PLUGINS, TRAINERS, register_plugins

from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint, read_image
from dassl.utils.torchtools import find_checkpoint
from trainers.base import load_method
from trainers.common.cached_training import CachedTrainer
from trainers.common.options import PRECISIONS, run_config


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    register_plugins(monkeypatch)


def logits_of(folder):
    with np.load(folder / "predictions.npz") as saved:
        return torch.tensor(saved["logits"])


def images_of(folder, own_data):
    """The images of a run's test, in the order of its logits."""
    transform = build_transform(run_config(folder), is_train=False)
    with np.load(folder / "predictions.npz") as saved:
        return torch.stack([transform(read_image(own_data / path)) for path in saved["impath"]])


def last_checkpoints(trainer, folder):
    """The last checkpoints of all parts of a method."""
    folders = (folder / name for name in TRAINER_REGISTRY.get(trainer).checkpoints)
    return [load_checkpoint(find_checkpoint(part)) for part in folders if part.is_dir()]


def equal(one, other):
    """Whether two checkpoints hold the same bits."""
    states = one["state_dict"], other["state_dict"]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def cut_after_first_epoch(trainer, folder):
    """Make a finished run of two epochs look as if it was killed in the second."""
    (folder / "result.json").unlink()
    for name in TRAINER_REGISTRY.get(trainer).checkpoints:
        if (folder / name / "model.pth.tar-2").is_file():
            (folder / name / "model.pth.tar-2").unlink()
            (folder / name / "checkpoint").write_text("model.pth.tar-1\n")


QUICK = ("fp32", "fp16")  # the other precisions run with the slow tests
CASES = [*itertools.product(TRAINERS, PRECISIONS), *((name, "fp16") for name in PLUGINS)]


@pytest.mark.parametrize(
    ("trainer", "precision"),
    [pytest.param(*case, marks=[] if case[1] in QUICK else pytest.mark.slow) for case in CASES],
)
def test_trains_two_steps_tests_saves_and_resumes(trainer, precision, run, pretend, own_data, tmp_path, monkeypatch):
    scaler = partial(torch.amp.GradScaler, init_scale=256.0, growth_interval=1)  # doubled at each step
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    words = ["OPTIM.MAX_EPOCH", 2, "TRAIN.CHECKPOINT_FREQ", 1, "TEST.SAVE_PREDICTIONS", True]
    words += ["DATASET.NUM_SHOTS", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 4]  # one step in each epoch
    words += [f"TRAINER.{node_of(trainer)}.PREC", precision]
    if precision == "fp16" and issubclass(TRAINER_REGISTRY.get(trainer), CachedTrainer):
        words += [f"TRAINER.{node_of(trainer)}.CACHED_PASSES", 1]  # the other precisions encode in each epoch
    folder = tmp_path / "out"
    code, out, err = run(*words, trainer=trainer)
    assert code == 0, err
    assert "computing in fp32" not in out
    logits = logits_of(folder)
    if precision == "fp32":
        assert run(*words, "USE_CUDA", False, trainer=trainer, output=tmp_path / "cpu")[0] == 0
        assert relative(logits, logits_of(tmp_path / "cpu")) < 1e-3
    if not TRAINER_REGISTRY.get(trainer).checkpoints:
        assert logits.isfinite().all()
        return  # a zero-shot trainer
    if precision == "fp16":
        images = images_of(folder, own_data)
        with torch.no_grad():
            assert relative(load_method(folder, device=pretend)(images.to(pretend)).cpu(), logits) < 1e-3
            assert relative(load_method(folder)(images), logits) < 2e-2  # on the CPU, in fp32
    last = last_checkpoints(trainer, folder)
    cut_after_first_epoch(trainer, folder)
    first = last_checkpoints(trainer, folder)
    code, out, err = run(*words, trainer=trainer)
    assert code == 0, err
    assert "will resume training" in out
    assert torch.equal(logits_of(folder), logits)
    for before, middle, after in zip(last, first, last_checkpoints(trainer, folder), strict=True):
        assert equal(before, after)
        if after["epoch"] == 2:
            assert not after["state_dict"] or not equal(before, middle)
            # The resumed run has doubled the scale that the first epoch had reached.
            assert precision != "amp" or after["scaler"]["scale"] == 1024.0
