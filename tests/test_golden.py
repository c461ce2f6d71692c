"""Every trainer gives what the original code gives: logits, losses, gradients, a step of SGD, and a method's own parts.

The cases are in tests/golden (the papers' baselines) and in tests/golden/successors. `--golden-dir DIR` reads other
folders of the same form. golden_answers.py computes our answers.
"""

import json

import numpy as np
import pytest
from conftest import ROOT
from golden_answers import AFTER_STEP, Answers, assert_close

from dassl.engine import TRAINER_REGISTRY

OURS = sorted(path.parent for path in (ROOT / "tests" / "golden").rglob("cases.json"))


#: Kinds of arrays that describe Tip-Adapter's search. The certain points of the grid depend on no rounding.
SEARCHES = ("search", "search_after_step")


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
        for name in sorted(golden.files, key=lambda name: name.split("/")[0] in AFTER_STEP):
            kind, _, rest = name.partition("/")
            if kind in ("step", "adamw_step"):  # compare the change, which is small
                change = getattr(ours, kind)(rest)
                assert_close(name, change, golden[name] - ours.starts[rest], tolerance=1e-2, floor=0.0)
            elif kind in SEARCHES:
                check_search(ours, golden, kind, rest)
            else:
                assert_close(name, ours.answer(kind, rest), golden[name])
    assert ours.weights() == pytest.approx(case.get("terms", ours.weights()))


def check_search(ours, golden, kind, rest):
    certain = golden[f"{kind}/certain"]
    if rest == "grid":
        assert np.abs(ours.answer(kind, rest).numpy() - golden[f"{kind}/{rest}"])[certain].max() < 1e-4
    elif rest == "ties":
        assert abs(int(ours.answer(kind, rest)) - golden[f"{kind}/ties"]) <= (~certain).sum()
    elif rest != "certain":
        assert_close(f"{kind}/{rest}", ours.answer(kind, rest), golden[f"{kind}/{rest}"], tolerance=1e-6)
