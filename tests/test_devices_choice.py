"""One function chooses the device, and the rules of the pretend device hold."""

import copy
import re

import pytest
import torch
from conftest import ROOT, config

from clip.model import from_state_dict
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.utils import choose_device, collect_env_info, device_memory, device_name, devices
from trainers.common.backbone import cast_weights

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"),
    [(True, True, CUDA), (True, False, CUDA), (False, True, MPS), (False, False, CPU)],
)
def test_cuda_is_preferred_to_mps_and_mps_to_the_cpu(has_cuda, has_mps, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda device: True)  # False for MPS in PyTorch 2.4
    assert choose_device(use_cuda=True) == expected
    assert choose_device(use_cuda=False) == CPU


def test_no_other_code_asks_for_a_gpu():
    """OpenAI's `clip.load` has a rule of its own."""
    asks = re.compile(r"(cuda|mps|accelerator)\.is_available|get_device_name|mem_get_info")
    files = (
        file
        for folder in ("clip", "dassl", "datasets", "experiments", "inference", "tools", "trainers", "untrusted")
        for file in (ROOT / folder).rglob("*.py")
    )
    found = {str(file.relative_to(ROOT)) for file in files if asks.search(file.read_text())}
    assert found == {"dassl/utils/devices.py", "dassl/distributed/group.py", "clip/clip.py"}


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16"])
def test_mps_computes_in_fp32_and_says_so(precision, tiny_weights, capsys):
    clip_model = from_state_dict(tiny_weights)
    assert cast_weights(clip_model, precision, MPS) == "fp32"
    assert clip_model.dtype == torch.float32
    assert capsys.readouterr().out == f"PREC {precision} isn't supported on MPS: computing in fp32\n"


def test_the_names_and_the_memory_of_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 10))
    monkeypatch.setattr(devices, "memory_limit", lambda: 7)
    assert [device_memory(device) for device in (CUDA, MPS, CPU)] == [10, 7, 7]
    names = [device_name(device) for device in (CUDA, MPS, CPU)]
    assert names == ["a GPU, cuda", "mps", f"CPU, {torch.get_num_threads()} threads"]
    assert collect_env_info(MPS).endswith(", mps")


@pytest.mark.parametrize(("device", "pins"), [(CUDA, True), (MPS, False), (CPU, False)])
def test_batches_are_pinned_for_cuda_alone(device, pins, monkeypatch):
    monkeypatch.setattr(devices, "best_device", lambda: device)
    for use_cuda in (True, False):
        cfg = config("USE_CUDA", use_cuda, "DATALOADER.NUM_WORKERS", 0)
        assert build_data_loader(cfg, data_source=[Datum(__file__, 0)]).pin_memory is (pins and use_cuda)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3) + x.sum(),
        lambda x: torch.zeros(()).add_(x.sum()),
        lambda x: torch.cat([x, torch.ones(1)]),
        lambda x: torch.nn.Linear(3, 3)(x),
        lambda x: x[torch.tensor([0])],
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.double(),
        lambda x: x.numpy(),
        lambda x: copy.copy(x),  # pickles
        lambda x: torch.nn.functional.layer_norm(x.half(), (3,), x, x),
        lambda x: torch.nn.functional.linear(x.half(), x[None]),
    ],
)
def test_the_pretend_device_refuses_what_cuda_or_mps_refuse(function, pretend):
    with pytest.raises((RuntimeError, TypeError)):
        function(torch.ones(3, device=pretend))


def test_the_pretend_device_allows_what_cuda_allows(pretend):
    x = torch.tensor([1.0, 2.0, 3.0], device="pretend")
    assert (x + torch.tensor(1.0)).tolist() == [2.0, 3.0, 4.0]
    assert x[[0, 2]].tolist() == [1.0, 3.0]
    assert x.masked_fill(x > 2, torch.tensor(0.0)).cpu().numpy().tolist() == [1.0, 2.0, 0.0]
    assert torch.zeros(3).copy_(x).device == CPU
    layer = torch.nn.Linear(3, 3).to(pretend)
    layer.weight.data = layer.weight.data.half()
    assert (layer.weight.dtype, layer.weight.cpu().dtype) == (torch.float16, torch.float16)
    with torch.autocast("pretend", torch.bfloat16):
        products, sums, widest = layer(x), x.half().sum(), torch.dot(x, x.half())
    assert (products.dtype, sums.dtype, widest.dtype) == (torch.bfloat16, torch.float32, torch.float32)
