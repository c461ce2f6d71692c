"""Evaluators: their numbers, the lines that log parsers read, and errors."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, config
from sklearn.metrics import f1_score

from dassl.evaluation import Classification, build_evaluator
from dassl.evaluation.confidence import calibration_error
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
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "ece", "perclass_accuracy"]
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


def test_calibration_error_of_a_few_images():
    """Two bins: 0.62 and 0.64 with one hit, and 0.9 with a hit. The bins are (0.6, 0.67] and (0.87, 0.93]."""
    error = calibration_error(np.array([0.62, 0.9, 0.64]), np.array([True, True, False]))
    assert error == pytest.approx(100 * (2 / 3 * abs(0.5 - 0.63) + 1 / 3 * (1 - 0.9)))
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration_error(np.array([1.0, 1.0]), np.array([False, False])) == 100
    assert np.isnan(calibration_error(np.array([np.nan, 1.0]), np.array([True, True])))


def test_calibration_and_top5_follow_from_the_logits(capsys):
    """The expected values are computed image by image."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(200, 8, generator=generator), torch.randint(8, (200,), generator=generator)
    evaluator = Classification(config())
    for batch in torch.arange(200).split(64):
        evaluator.process(logits[batch], labels[batch])
    bins: dict[int, list[tuple[bool, float]]] = {}
    in_top5 = 0
    for row, label in zip(logits.double().softmax(-1), labels.tolist(), strict=True):
        confidence = row.max().item()
        number = next(number for number in range(15) if confidence <= (number + 1) / 15)
        bins.setdefault(number, []).append((row.argmax().item() == label, confidence))
        in_top5 += sorted(row.tolist(), reverse=True).index(row[label].item()) < 5
    gaps = [abs(sum(hit for hit, _ in images) - sum(value for _, value in images)) for images in bins.values()]
    record = evaluator.record()
    assert record["ece"] == pytest.approx(100 * sum(gaps) / 200, rel=1e-5)
    assert record["top5_accuracy"] == pytest.approx(100 * in_top5 / 200)
    assert list(evaluator.evaluate())[3:] == ["ece", "top5_accuracy"]
    out = capsys.readouterr().out.splitlines()
    assert out[-2:] == [f"* ece: {record['ece']:.1f}%", f"* top5: {record['top5_accuracy']:.1f}%"]
    assert sum("accuracy: " in line for line in out) == 1  # log parsers must find one accuracy


@pytest.mark.parametrize(("n_classes", "expected"), [(5, None), (6, 50.0)])
def test_top5_accuracy_needs_six_classes(n_classes, expected):
    evaluator = Classification(config())
    evaluator.process(torch.arange(float(n_classes)).repeat(2, 1), torch.tensor([0, 1]))
    assert evaluator.record().get("top5_accuracy") == expected


def test_logits_without_a_probability_cost_no_result():
    """The softmax of an infinite logit is no number."""
    evaluator = Classification(config())
    evaluator.process(torch.tensor([[torch.inf, 0.0]]), torch.tensor([0]))
    assert (evaluator.record()["accuracy"], "ece" in evaluator.record()) == (100.0, False)


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
