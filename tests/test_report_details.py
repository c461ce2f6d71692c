"""`report.py --layout details`: all scores, also of results that lack some."""

import csv
import io
import json

import pytest
from report_runs import write_result

import report


def details(folder, capsys, form):
    assert report.main([str(folder), "--layout", "details", "--format", form]) == 0
    return capsys.readouterr().out


def test_details_are_means_over_seeds(tmp_path, capsys):
    for seed, ece in ((1, 4.0), (2, 6.0)):
        scores = {"accuracy": 80.0 + seed, "ece": ece, "top5_accuracy": 97.5}
        write_result(tmp_path / f"base/seed{seed}", seed=seed, **scores)
    write_result(tmp_path / "new/seed1", subsample_classes="new", accuracy=60.0)  # an older result
    base, new = json.loads(details(tmp_path, capsys, "json"))
    assert (base["part"], base["accuracy"], base["macro_f1"], base["top5_accuracy"]) == ("base", 81.5, 50.0, 97.5)
    assert (base["ece"], base["ece_std"], base["seeds"]) == (5.0, pytest.approx(2**0.5), [1, 2])
    assert (new["part"], new["accuracy"], new["ece"], new["top5_accuracy"]) == ("new", 60.0, None, None)
    rows = list(csv.DictReader(io.StringIO(details(tmp_path, capsys, "csv"))))
    assert [(row["part"], row["ece"], row["seeds"]) for row in rows] == [("base", "5.0", "1 2"), ("new", "", "1")]
    text = details(tmp_path, capsys, "markdown")
    assert "| calibration error" in text
    assert "5.00 ± 1.41" in text
    assert "calibration" not in _main_table(tmp_path, capsys)


def _main_table(folder, capsys):
    assert report.main([str(folder)]) == 0
    return capsys.readouterr().out


def test_details_of_older_results_show_no_empty_columns(tmp_path, capsys):
    write_result(tmp_path, accuracy=60.0)
    text = details(tmp_path, capsys, "terminal")
    assert "accuracy" in text
    assert "top-5" not in text
