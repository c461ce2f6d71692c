"""Which table of report.py a run appears in: by `protocol` in result.json, or else by the other fields."""

import json

import pytest
from report_runs import write_base2new, write_result

import report

PROTOCOLS = ("base2new", "few_shot", "cross_dataset", "domain_generalization")


def datasets_by_protocol(folder, capsys):
    """Return the data sets of each protocol's table of `folder`, without the average."""
    found = {}
    for protocol in PROTOCOLS:
        code = report.main([str(folder), "--format", "json", "--protocol", protocol])
        out = capsys.readouterr().out
        found[protocol] = [row["dataset"] for row in json.loads(out)][:-1] if code == 0 else []
    return found


def write_cross_dataset(folder, **fields):
    """Write runs of two seeds that were trained on ImageNet and tested on three other data sets."""
    for seed in (1, 2):
        common = {"subsample_classes": "all", "seed": seed, "trained_on": "ImageNet"} | fields
        write_result(folder / f"imagenet/seed{seed}", dataset="ImageNet", accuracy=70.0, **common)
        for dataset, test_only in (("EuroSAT", False), ("UCF101", False), ("ImageNetV2", True)):
            write_result(
                folder / f"{dataset}/seed{seed}", dataset=dataset, accuracy=60.0 + seed, test_only=test_only, **common
            )


@pytest.mark.parametrize("protocol", ["cross_dataset", "", None])
def test_cross_dataset_and_domain_generalization(protocol, tmp_path, capsys):
    """Results with the key, with an empty key, and older results without it give the same tables."""
    write_cross_dataset(tmp_path, **({} if protocol is None else {"protocol": protocol}))
    assert report.main([str(tmp_path), "--format", "json", "--protocol", "cross_dataset"]) == 0
    rows = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["ImageNet (source)", "EuroSAT", "UCF101", "average"]
    assert (rows["ImageNet (source)"]["accuracy"], rows["average"]["accuracy"]) == (70.0, 61.5)
    assert rows["EuroSAT"]["accuracy_paper"] == 48.06
    found = datasets_by_protocol(tmp_path, capsys)
    assert found["domain_generalization"] == ["ImageNet (source)", "ImageNetV2"]
    assert found["few_shot"] == found["base2new"] == []


def test_a_method_that_learns_nothing_is_placed_by_its_protocol(tmp_path, capsys):
    write_cross_dataset(tmp_path / "maple", protocol="cross_dataset")
    write_cross_dataset(tmp_path / "zeroshot", protocol="cross_dataset", trainer="ZeroshotCLIP", trained_on="")
    found = datasets_by_protocol(tmp_path, capsys)
    of_two_methods = ["ImageNet (source)", "EuroSAT", "UCF101", "average"] * 2
    assert found["cross_dataset"] == of_two_methods[:-1]
    assert found["few_shot"] == []


def test_few_shot_runs_on_the_source_stay_in_their_table(tmp_path, capsys):
    """The same config, data set, shots and seed in two protocols are two runs."""
    write_cross_dataset(tmp_path / "xd", protocol="cross_dataset")
    few_shot = {"protocol": "few_shot", "subsample_classes": "all", "trained_on": "ImageNet", "dataset": "ImageNet"}
    write_result(tmp_path / "few_shot", accuracy=50.0, **few_shot)
    found = datasets_by_protocol(tmp_path, capsys)
    assert found["few_shot"] == ["ImageNet"]
    assert found["cross_dataset"] == ["ImageNet (source)", "EuroSAT", "UCF101"]


def test_prompts_of_unknown_origin_are_placed_by_their_protocol(tmp_path, capsys):
    """Official checkpoints come without the config that names their training data."""
    common = {"subsample_classes": "all", "trained_on": None, "accuracy": 50.0}
    write_result(tmp_path / "a", dataset="EuroSAT", protocol="cross_dataset", **common)
    write_result(tmp_path / "b", dataset="UCF101", **common)
    found = datasets_by_protocol(tmp_path, capsys)
    assert (found["cross_dataset"], found["few_shot"]) == (["EuroSAT"], ["UCF101"])


def test_source_runs_without_a_target_are_shown(tmp_path, capsys):
    common = {"subsample_classes": "all", "trained_on": "ImageNet", "dataset": "ImageNet"}
    write_result(tmp_path / "a", accuracy=50.0, protocol="cross_dataset", **common)
    assert datasets_by_protocol(tmp_path, capsys)["cross_dataset"] == ["ImageNet (source)"]


def test_base_and_new_classes_are_base2new(tmp_path, capsys):
    write_base2new(tmp_path / "named", {("EuroSAT", 1): (90.0, 70.0)}, protocol="base2new")
    write_base2new(tmp_path / "older", {("UCF101", 1): (90.0, 70.0)})
    write_base2new(tmp_path / "evaluation", {("Food101", 1): (90.0, 70.0)})  # the folder's name doesn't matter
    found = datasets_by_protocol(tmp_path, capsys)
    assert sorted(found["base2new"]) == ["EuroSAT", "Food101", "UCF101"]
    assert found["cross_dataset"] == found["few_shot"] == []
