"""Every trainer gives what the original code gives: logits, loss, gradients, a step of SGD.

`--golden-dir DIR` reads other cases than those in tests/golden.
"""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

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
from trainers.common.options import default_config

load_plugins("trainers")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--golden-dir"))
        cases = json.loads((folder / "cases.json").read_text())
        metafunc.parametrize(
            "case", [case | {"folder": folder} for case in cases], ids=[case["name"] for case in cases]
        )


def build(case: dict) -> torch.nn.Module:
    """The case's model, its learnable parameters at their starting values."""
    sizes = case.get("clip", {})
    cfg = default_config()
    for key, value in case["options"].items():
        merge_words(cfg, [f"TRAINER.{node_of(case['trainer'])}.{key}", value])
    dataset = SimpleNamespace(
        classnames=case["classnames"], tasknames=case.get("tasknames"), template="a photo of a {}."
    )
    trainer = TRAINER_REGISTRY.get(case["trainer"])
    model = trainer.make_model(cfg, from_state_dict(small_clip.state_dict(**sizes)), dataset)
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


def loss_of(model: torch.nn.Module, images: torch.Tensor, case: dict) -> torch.Tensor:
    logits = model(images)
    trainer = TRAINER_REGISTRY.get(case["trainer"])
    if "task_of_image" not in case:
        return trainer.loss(logits, torch.arange(case["batch"]) % logits.shape[1])
    labels = torch.full((case["batch"], logits.shape[1]), -1)  # a row over all tasks' classes: see MultiTaskDatum
    starts = [0, *itertools.accumulate(len(names) for names in case["classnames"])]
    for row, task, label in zip(labels, case["task_of_image"], case["label_of_image"], strict=True):
        row[starts[task] : starts[task + 1]] = 0
        row[starts[task] + label] = 1
    return trainer.loss(logits, labels)


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
