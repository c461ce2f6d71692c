"""Several processes, connected with gloo on the CPU, train and test as a single process does."""

import distributed_jobs
import pytest
import several_processes
import torch
from distributed_jobs import VARIANTS
from tiny_methods import TRAINERS

CASES = [*TRAINERS, *VARIANTS]


@pytest.fixture(scope="module")
def trained():
    """trained(processes, dtype, steps) -> {case: results of the main process}. Every combination runs only once."""
    found = {}

    def run(processes, dtype="float64", steps=20):
        key = processes, dtype, steps
        if key not in found:
            found[key] = several_processes.run(processes, distributed_jobs.train_all, steps, dtype)[0]
        return found[key]

    return run


def assert_close(ours, expected, tolerance):
    for name, one, other in zip(ours._fields, ours, expected, strict=True):
        assert one.shape == other.shape
        error = ((one - other).abs() / other.abs().clamp(min=1)).max().item() if one.numel() else 0.0
        assert error <= tolerance, f"{name} differ by {error:.2g}"


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(case, trained):
    """Losses of 20 steps, parameters and logits are equal in float64. All processes draw the same random numbers."""
    assert_close(trained(2)[case], trained(1)[case], 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_four_processes_equal_one(case, trained):
    assert_close(trained(4)[case], trained(1)[case], 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_processes_equal_one_in_float32(case, processes, trained):
    assert_close(trained(processes, "float32")[case], trained(1, "float32")[case], 1e-4)


def test_two_processes_repeat_the_same_bits(trained):
    names = ["MaPLe", "CoPrompt", "sampled classes"]
    again = several_processes.run(2, distributed_jobs.train_all, 20, "float64", names)[0]
    for name in names:
        assert all(torch.equal(*pair) for pair in zip(again[name], trained(2)[name], strict=True))
