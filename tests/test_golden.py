"""Every trainer gives what the original code gives: logits, losses, gradients, a step of SGD, and a method's own parts.

The cases are in tests/golden (the papers' baselines) and in tests/golden/successors. `--golden-dir DIR` reads other
folders of the same form. golden_answers.py computes our answers.
"""

import json

import numpy as np
import pytest
from conftest import ROOT
from golden_answers import Answers, assert_close

from dassl.engine import TRAINER_REGISTRY

OURS = sorted(path.parent for path in (ROOT / "tests" / "golden").rglob("cases.json"))


def pytest_generate_tests(metafunc):
    folders = metafunc.config.getoption("--golden-dir") or OURS
    cases = [
        case | {"folder": folder} for folder in folders for case in json.loads((folder / "cases.json").read_text())
    ]
    metafunc.parametrize("case", cases, ids=[case["name"] for case in cases])


def test_golden(case, tmp_path):
    if case["trainer"] not in TRAINER_REGISTRY.registered_names() and case["folder"] not in OURS:
        pytest.skip(f"there is no trainer {case['trainer']}")
    ours = Answers(case, tmp_path)
    with np.load(case["folder"] / f"{case['name']}.npz") as golden:
        for name in golden.files:
            kind, _, rest = name.partition("/")
            if kind == "step":  # compare the change, which is small
                start = ours.start(rest)
                assert_close(name, ours.step(rest) - start, golden[name] - start, tolerance=1e-2, floor=0.0)
            else:
                assert_close(name, ours.answer(kind, rest), golden[name])
    assert ours.weights() == case.get("terms", ours.weights())
