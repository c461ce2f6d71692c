"""Every trainer gives what the original code gives: logits, loss, gradients, a step of SGD.

`--golden-dir DIR` reads other cases than those in tests/golden.
"""

import itertools
import json
from pathlib import Path

import formula
import numpy as np
import pytest
import small_clip
import torch
from conftest import node_of

from clip.model import from_state_dict
from dassl.config import merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from trainers.base import Batch, Method, Task, total
from trainers.common.options import default_config

load_plugins("trainers")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--golden-dir"))
        cases = json.loads((folder / "cases.json").read_text())
        metafunc.parametrize(
            "case", [case | {"folder": folder} for case in cases], ids=[case["name"] for case in cases]
        )


def build(case: dict) -> Method:
    """The case's model, its learnable parameters at their starting values."""
    sizes = case.get("clip", {})
    cfg = default_config()
    for key, value in case["options"].items():
        merge_words(cfg, [f"TRAINER.{node_of(case['trainer'])}.{key}", value])
    trainer = TRAINER_REGISTRY.get(case["trainer"])
    names = case["classnames"]
    if "tasknames" in case:
        names = [Task(*task) for task in zip(case["tasknames"], names, strict=True)]
    clip = from_state_dict(small_clip.state_dict(**sizes))
    model = trainer.build_method(cfg, clip, names, "a photo of a {}.")
    parameters = dict(model.named_parameters())
    assert {name: list(p.shape) for name, p in parameters.items()} == case["parameters"]
    options = case["options"]
    worded = options.get("CTX_INIT") and (
        options.get("N_CTX", options.get("N_CTX_TEXT", 0)) <= 4 or case["trainer"] in ("CoOp", "CoCoOp")
    )
    with torch.no_grad():
        for name, p in parameters.items():
            if not (worded and name == "prompt_learner.ctx"):
                p.copy_(torch.as_tensor(formula.parameter(name, tuple(p.shape))))
    return model


def labels_of(case: dict) -> torch.Tensor:
    """The labels of a case's images: classes by number, or rows over all tasks' classes (see MultiTaskDatum)."""
    if "task_of_image" not in case:
        return torch.arange(case["batch"]) % len(case["classnames"])
    labels = torch.full((case["batch"], sum(map(len, case["classnames"]))), -1)
    starts = [0, *itertools.accumulate(len(names) for names in case["classnames"])]
    for row, task, label in zip(labels, case["task_of_image"], case["label_of_image"], strict=True):
        row[starts[task] : starts[task + 1]] = 0
        row[starts[task] + label] = 1
    return labels


def loss_of(model: Method, images: torch.Tensor, case: dict) -> torch.Tensor:
    batch = Batch(images, labels_of(case))
    return total(model.losses(model.outputs(batch), batch))


def assert_close(name: str, ours, golden, tolerance: float = 1e-4, floor: float = 1e-6) -> None:
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, dtype=np.float32)
    error, limit = np.abs(ours - golden).max(), tolerance * np.abs(golden).max() + floor
    assert error <= limit, f"{name}: differs by {error:.3g}, allowed {limit:.3g}"


def test_golden(case):
    if case["trainer"] not in TRAINER_REGISTRY.registered_names():
        pytest.skip(f"trainer {case['trainer']} is not registered")
    golden = np.load(case["folder"] / f"{case['name']}.npz")
    model = build(case)
    images = torch.as_tensor(formula.images(case["batch"], case.get("clip", {}).get("image_resolution", 64)))

    with torch.no_grad():
        assert_close("logits", model.eval()(images), golden["logits"])
    model.train()
    lr = 0.002 if "tasknames" in case else 0.0035
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = loss_of(model, images, case)
    assert_close("loss", loss, golden["loss"])
    loss.backward()
    for name, p in model.named_parameters():
        assert_close(f"grad_norm/{name}", p.grad.norm(), golden[f"grad_norm/{name}"])
        assert_close(f"grad/{name}", formula.sample(name, p.grad.numpy()), golden[f"grad/{name}"])
    optimizer.step()
    for name, p in model.named_parameters():
        before = formula.sample(name, start[name].numpy())
        change = golden[f"step/{name}"] - before
        assert_close(f"step/{name}", formula.sample(name, p.detach().numpy()) - before, change, 1e-2, 0.0)
    assert_close("loss_after_step", loss_of(model, images, case), golden["loss_after_step"])
