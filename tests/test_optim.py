"""Optimisers and schedules: Dassl's learning rates, also after a resume."""

import math
import pickle

import pytest
import torch
from conftest import config

from dassl.optim import RAdam, build_lr_scheduler, build_optimizer
from dassl.utils import InputError


def rates(*overrides, epochs=5):
    """The learning rate of each epoch."""
    optim = config("OPTIM.NAME", "sgd", "OPTIM.LR", 0.0035, "OPTIM.MAX_EPOCH", epochs, *overrides).OPTIM
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


def test_a_resumed_schedule_has_the_same_rates():
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


@pytest.mark.parametrize("name", ["adam", "amsgrad", "radam", "adamw"])
def test_adam_eps(name):
    model = torch.nn.Linear(2, 1)
    assert build_optimizer(model, config("OPTIM.NAME", name).OPTIM).param_groups[0]["eps"] == 1e-8
    optim = config("OPTIM.NAME", name, "OPTIM.ADAM_EPS", 1e-3).OPTIM
    assert build_optimizer(model, optim).param_groups[0]["eps"] == 1e-3


def test_radam_has_no_variant_without_sgd_steps():
    with pytest.raises(ValueError, match="degenerated_to_sgd"):
        RAdam([torch.zeros(1, requires_grad=True)], degenerated_to_sgd=False)


def test_staged_learning_rates():
    net = torch.nn.Sequential()
    net.add_module("old", torch.nn.Linear(1, 1))
    net.add_module("new", torch.nn.Linear(1, 1))
    optim = config("OPTIM.STAGED_LR", True, "OPTIM.NEW_LAYERS", ("new",), "OPTIM.LR", 1).OPTIM
    assert [g["lr"] for g in build_optimizer(net, optim).param_groups] == [0.1, 1.0]
    with pytest.raises(InputError, match="STAGED_LR needs a module"):
        build_optimizer(net.parameters(), optim)


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(InputError, match="adamw"):
        build_optimizer(torch.nn.Linear(1, 1), config("OPTIM.NAME", "adamx").OPTIM)
