"""The fused step: where it is used, that it is equal to the plain one, and what a checkpoint may not change."""

import copy

import pytest
import torch
from conftest import config
from torch import nn

from dassl.optim import TensorRates, build_optimizer, capturable, fused, is_fused

NAMES = {"sgd": True, "adam": True, "amsgrad": True, "adamw": True, "rmsprop": False, "radam": False}


@pytest.fixture
def on_gpu(monkeypatch):
    """The CPU counts as a device with the fused step; torch has the fused kernels for a CPU, too."""
    monkeypatch.setattr(fused, "FUSED_DEVICES", ("cpu",))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def optimizer_of(net, name="sgd", *words):
    return build_optimizer(net, config("OPTIM.NAME", name, "OPTIM.LR", 0.1, *words).OPTIM)


def train(net, optimizer, steps, scaler=None):
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    for number in range(steps):
        optimizer.zero_grad()
        scaler.scale(net(torch.full((2, 3), 1.0 + number)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_a_cpu_keeps_torchs_default(name):
    optimizer = optimizer_of(model(), name)
    assert not is_fused(optimizer)
    assert not optimizer.state
    assert {group[key] for group in optimizer.param_groups for key in ("fused", "foreach") if key in group} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_the_fused_step_is_the_plain_step_up_to_rounding(name, on_gpu, monkeypatch):
    ours = model()
    optimizer = optimizer_of(ours, name)
    assert is_fused(optimizer) is NAMES[name]
    fast = train(ours, optimizer, 4)
    monkeypatch.setattr(fused, "FUSED_DEVICES", ())
    plain = model()
    for ours, theirs in zip(fast, train(plain, optimizer_of(plain, name), 4), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_counts_as_a_change_of_the_parameters(name, on_gpu):
    net = model()
    optimizer = optimizer_of(net, name)
    for _ in range(3):
        before = [p._version for p in net.parameters()]
        train(net, optimizer, 1)
        assert all(p._version > version for p, version in zip(net.parameters(), before, strict=True))


def test_sgd_with_dampening_isnt_fused(on_gpu):
    assert not is_fused(optimizer_of(model(), "sgd", "OPTIM.SGD_DAMPNING", 1))


def test_parameters_on_several_devices_arent_fused(on_gpu):
    net = model()
    net[1] = nn.Linear(4, 2, device="meta")
    assert not is_fused(optimizer_of(net))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_first_step_that_amp_skips_leaves_no_trace(name, on_gpu):
    """The first loss scale is too large, so the gradients are infinite. The later steps must start from zero."""
    skipped, expected = model(), model()
    junk = [torch.full((size,), float("nan")) for size in (12, 4, 8, 2) for _ in range(100)]
    del junk  # memory that isn't initialised now holds NaN
    optimizer = optimizer_of(skipped, name)
    scaler = torch.amp.GradScaler("cpu", init_scale=float("inf"))
    start = [p.detach().clone() for p in skipped.parameters()]
    assert all(map(torch.equal, train(skipped, optimizer, 1, scaler), start))
    after = train(skipped, optimizer, 3)
    assert all(map(torch.allclose, after, train(expected, optimizer_of(expected, name), 3)))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("devices", [(("cpu",), ()), ((), ("cpu",))], ids=["gpu to cpu", "cpu to gpu"])
def test_a_resume_keeps_the_implementation_of_the_device(name, devices, monkeypatch):
    before, after = devices
    monkeypatch.setattr(fused, "FUSED_DEVICES", before)
    net = model()
    optimizer = optimizer_of(net, name)
    train(net, optimizer, 2)
    monkeypatch.setattr(fused, "FUSED_DEVICES", after)
    resumed = copy.deepcopy(net)
    other = optimizer_of(resumed, name)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert is_fused(other) is bool(after)
    for ours, theirs in zip(train(resumed, other, 2), train(net, optimizer, 2), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_state_of_other_groups_is_torchs_error():
    optimizer = optimizer_of(model())
    state = optimizer.state_dict() | {"param_groups": []}
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(state)


def test_groups_may_hold_generators_and_stay_the_callers(on_gpu):
    net = model()
    groups = [{"params": net[0].parameters(), "lr": 0.5}, {"params": net[1].weight}]
    optimizer = build_optimizer(groups, config("OPTIM.NAME", "sgd", "OPTIM.LR", 0.1).OPTIM)
    assert is_fused(optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]
    groups[0]["lr"] = 0.25
    assert optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(ValueError, match="empty parameter list"):
        build_optimizer([], config().OPTIM)


def test_tensor_rates_follow_the_schedule_and_leave_numbers_behind(on_gpu):
    optimizer = optimizer_of(model(), "adam")
    rates = TensorRates(optimizer)
    (tensor,) = rates.tensors
    for rate in (0.1, 0.05):
        optimizer.param_groups[0]["lr"] = rate
        with rates.applied(), capturable(optimizer):
            assert optimizer.param_groups[0]["lr"] is tensor
            assert tensor.item() == pytest.approx(rate)
            assert optimizer.param_groups[0]["capturable"]
        assert optimizer.param_groups[0]["lr"] == rate
        assert not optimizer.param_groups[0]["capturable"]
