"""Evaluators: their numbers, the lines that log parsers read, and errors."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, config
from sklearn.metrics import f1_score

from dassl.evaluation import Classification, build_evaluator
from dassl.evaluation.evaluator import macro_f1
from dassl.metrics import compute_accuracy
from dassl.utils import InputError


def test_compute_accuracy():
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    top1, top2 = compute_accuracy((logits, None), torch.tensor([0, 1]), topk=(1, 2))
    assert (top1.item(), top2.item()) == (50.0, 100.0)


def test_macro_f1_is_sklearns_to_the_bit():
    rng = np.random.RandomState(0)
    y_true, y_pred = rng.randint(0, 7, 200), rng.randint(0, 9, 200)
    expected = 100 * f1_score(y_true, y_pred, average="macro", labels=np.unique(y_true), zero_division=0)
    assert macro_f1(y_true, y_pred) == expected


def test_classification_prints_the_lines_that_parsers_read(tmp_path, capsys):
    overrides = ("TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True, "OUTPUT_DIR", str(tmp_path))
    evaluator = build_evaluator(config(*overrides), lab2cname={0: "cat", 1: "dog"})
    evaluator.process(torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]))
    results = evaluator.evaluate()
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    assert results["accuracy"] == pytest.approx(200 / 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "=> result",
        "* total: 3",
        "* correct: 2",
        "* accuracy: 66.7%",
        "* error: 33.3%",
        "* macro_f1: 66.7%",
    ]
    assert "* class: 1 (dog)\ttotal: 2\tcorrect: 1\tacc: 50.0%" in lines
    assert "* average: 75.0%" in lines
    assert torch.load(tmp_path / "cmat.pt")[1].tolist() == [0.5, 0.5]
    assert evaluator.record()["per_class"] == {"cat": 100.0, "dog": 50.0}


def test_classes_of_the_same_name_get_their_label():
    evaluator = Classification(config(), {0: "missile", 1: "missile", 2: "crane"})
    evaluator.process(torch.eye(3), torch.tensor([0, 1, 0]))
    assert evaluator.record()["per_class"] == {"missile (0)": 50.0, "missile (1)": 100.0}


def test_evaluator_errors():
    with pytest.raises(InputError, match="Classification"):
        build_evaluator(config("TEST.EVALUATOR", "Classificatoin"))
    with pytest.raises(InputError, match="no images"):
        Classification(config()).evaluate()
    cfg = config("TEST.EVALUATOR", "ClassificationMT", "DATASET.NAME", "DescribableTextures")
    with pytest.raises(InputError, match=r"several tasks .* DescribableTextures has one"):
        build_evaluator(cfg, dataset=object())


def test_sklearn_is_imported_only_for_a_score():
    code = """
        import sys, torch
        from dassl.config import get_cfg_default
        from dassl.engine import TrainerX
        from dassl.evaluation import build_evaluator
        evaluator = build_evaluator(get_cfg_default())
        evaluator.process(torch.eye(2), torch.tensor([0, 1]))
        assert "sklearn" not in sys.modules
        evaluator.evaluate()
        assert "sklearn" in sys.modules
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    subprocess.run([sys.executable, "-c", lines], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
