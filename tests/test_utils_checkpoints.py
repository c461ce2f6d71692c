"""Checkpoint files: saving, loading, and loading untrusted files safely."""

import os

import pytest
import torch

from dassl.utils import (
    InputError,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    open_specified_layers,
    resume_from_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def model():
    return torch.nn.Linear(2, 1)


@pytest.fixture
def saved(model, tmp_path):
    """A folder with the checkpoint of epoch 3, saved from `DataParallel`, and a best one of epoch 1."""
    state = {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}
    save_checkpoint(state, tmp_path)
    save_checkpoint(state | {"epoch": 1}, tmp_path, is_best=True)
    return tmp_path


def test_a_resume_loads_the_last_checkpoint_not_the_best(saved, model):
    assert (saved / "checkpoint").read_text().strip() == "model.pth.tar-3"
    other = torch.nn.Linear(2, 1)
    assert resume_from_checkpoint(saved, other) == 3
    assert torch.equal(other.weight, model.weight)
    with pytest.raises(InputError, match="another model"):
        resume_from_checkpoint(saved, torch.nn.Linear(3, 1))


def test_pretrained_weights_are_loaded_where_they_fit(saved, model):
    other = torch.nn.Linear(2, 1)
    load_pretrained_weights(other, saved / "model.pth.tar-3")
    assert torch.equal(other.weight, model.weight)
    with pytest.warns(UserWarning, match="no weight"):
        load_pretrained_weights(torch.nn.Linear(5, 5), saved / "model.pth.tar-3")


def test_errors_of_missing_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(ValueError, match="None"):
        load_checkpoint(None)


def test_count_num_param(model):
    assert count_num_param(model) == count_num_param(params=model.parameters()) == 3


def test_open_specified_layers():
    net = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1), "b": torch.nn.Linear(1, 1)})
    open_specified_layers(net, "a")
    assert [p.requires_grad for p in net.parameters()] == [True, True, False, False]


class LiveScheduler:
    """Stands for the scheduler objects in pickles of the original code."""

    def __init__(self):
        self.state = {"last_epoch": 5}


@pytest.mark.parametrize("legacy", [True, False])
def test_loading_a_checkpoint_runs_no_code(tmp_path, legacy):
    class Malicious:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    tensor = torch.arange(3.0)
    content = {"state_dict": {"ctx": tensor}, "epoch": 5, "scheduler": {"s": LiveScheduler()}, "x": Malicious()}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=not legacy)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(loaded["state_dict"]["ctx"], tensor)
    assert loaded["epoch"] == 5
    assert not isinstance(loaded["scheduler"]["s"], LiveScheduler)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "cut.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut\.pt"):
        load_checkpoint(tmp_path / "cut.pt")
