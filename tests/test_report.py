"""report.py: the figures of its tables, missing runs, output formats and errors."""

import csv
import io
import json
import math
import statistics
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, SHARED
from report_runs import ACCURACIES, write_base2new, write_result

import report
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from reporting.published import PAPER, SUCCESSORS, read_published
from reporting.read import ReportError, read


def rows_of(folder, capsys, *arguments):
    assert report.main([str(folder), "--format", "json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_means_and_spreads(tmp_path, capsys):
    """The expected values are computed by hand."""
    write_base2new(tmp_path, ACCURACIES)
    rows = {row["dataset"]: row for row in rows_of(tmp_path, capsys, "--protocol", "base2new")}
    assert list(rows) == ["DescribableTextures", "EuroSAT", "average"]
    dtd = rows["DescribableTextures"]
    assert {"trainer", "config", "dataset", "shots", "base", "new", "hm", "base_std", "seeds", "missing"} <= set(dtd)
    assert (dtd["base"], dtd["new"], dtd["seeds"], dtd["missing"]) == (81.0, 58.0, [1, 2, 3], [])
    assert dtd["hm"] == pytest.approx(2 * 81 * 58 / (81 + 58))
    assert (dtd["base_std"], dtd["new_std"]) == pytest.approx((1.0, 2.0))
    by_seed = [2 * b * n / (b + n) for b, n in ((80, 60), (82, 56), (81, 58))]
    assert dtd["hm_std"] == pytest.approx(statistics.stdev(by_seed))
    assert dtd["base_ci95"] == pytest.approx(4.302653 * 1.0 / math.sqrt(3), rel=1e-5)  # Student's t, 2 degrees
    average = rows["average"]
    assert average["base"] == pytest.approx((81 + (92 + 95 + 94) / 3) / 2)
    assert average["base_std"] == pytest.approx(statistics.stdev([(80 + 92) / 2, (82 + 95) / 2, (81 + 94) / 2]))
    assert average["hm"] == pytest.approx(statistics.harmonic_mean([average["base"], average["new"]]))


def test_published_figures_are_compared_for_the_same_backbone_and_data_sets_only(tmp_path, capsys):
    write_base2new(tmp_path, ACCURACIES)
    write_base2new(tmp_path / "rn50", ACCURACIES, backbone="RN50", config="rn50")
    rows = {(row["backbone"], row["dataset"]): row for row in rows_of(tmp_path, capsys)}
    dtd = rows["ViT-B/16", "DescribableTextures"]  # published: 80.36, 59.18
    assert (dtd["base_paper"], dtd["base_diff"]) == pytest.approx((80.36, 81 - 80.36))
    assert (dtd["base_off"], dtd["new_off"]) == (False, False)
    write_base2new(tmp_path, {("EuroSAT", seed): (90.0 + seed / 100, 70.0) for seed in (1, 2, 3)})
    eurosat = next(row for row in rows_of(tmp_path, capsys) if row["dataset"] == "EuroSAT")
    assert eurosat["base_off"] is True
    assert "base_paper" not in rows["RN50", "DescribableTextures"]
    assert "base_paper" not in rows["ViT-B/16", "average"]  # published over 11 data sets, 2 here


@pytest.mark.parametrize("paper", [PAPER, SHARED / "paper_results.json"])
def test_averages_of_published_figures_are_the_published_averages(paper, tmp_path, capsys):
    if not paper.is_file():
        pytest.skip(f"no {paper}")
    published = json.loads(paper.read_text())
    for trainer, datasets in published["base2new"].items():
        write_base2new(tmp_path, {(name, 1): (v["base"], v["new"]) for name, v in datasets.items()}, trainer=trainer)
    rows = {row["trainer"]: row for row in rows_of(tmp_path, capsys) if row["dataset"] == "average"}
    assert [round(rows["MaPLe"][name], 2) for name in ("base", "new", "hm")] == [82.28, 75.14, 78.55]
    for trainer, row in rows.items():
        assert [row["base"], row["new"], row["hm"]] == pytest.approx(published["base2new_average"][trainer], abs=0.0051)
        assert abs(row["hm_diff"]) < 0.0051


def test_figures_of_successors_are_compared_for_the_same_shots_and_backbone(tmp_path, capsys):
    """A row has the few-shot figure of its backbone and shots, and the report names the source."""
    fields = dict(subsample_classes="all", protocol="few_shot", trainer="CLIP_Adapter", dataset="EuroSAT")
    for shots, backbone in ((16, "RN50"), (16, "ViT-B/16"), (2, "ViT-B/16")):
        folder = tmp_path / backbone.replace("/", "-") / str(shots)
        write_result(folder, accuracy=80.0, shots=shots, backbone=backbone, config=backbone, **fields)
    rows = [row for row in rows_of(tmp_path, capsys) if row["dataset"] == "EuroSAT"]
    found = {(row["backbone"], row["shots"]): row for row in rows}
    published = json.loads(SUCCESSORS.read_text())
    of_vit = published["few_shot_clip_lora_protocol"]["figures"]["CLIP-Adapter"]
    assert found["ViT-B/16", 16]["accuracy_paper"] == of_vit["shots"]["16"]["EuroSAT"]
    assert "with ViT-B/16: CLIP-LoRA (CVPRW 2024), main table (R: from memory" in found["ViT-B/16", 16]["source"]
    of_rn50 = published["few_shot_rn50"]["CLIP-Adapter"]
    assert found["RN50", 16]["accuracy_paper"] == of_rn50["shots"]["16"]["EuroSAT"]
    assert (
        "with RN50: exp.log of gaopengcuhk/Tip-Adapter (C: copied from the official repository)"
        in found["RN50", 16]["source"]
    )
    assert "accuracy_paper" not in found["ViT-B/16", 2]  # published for 1, 4 and 16 shots


@pytest.mark.parametrize(("protocol", "measure"), [("base2new", "base"), ("cross_dataset", "accuracy")])
def test_the_default_figures_cover_every_registered_method_that_was_published(protocol, measure):
    """The names in the file of successors are those of trainers, except for methods that the project doesn't have."""
    trainers = {trainer for trainer, _, _ in read_published(protocol)}
    without = {"RPO", "PromptKD", "LASP (repository)", "SkipTuning"}
    load_plugins("trainers")
    assert trainers - set(TRAINER_REGISTRY.registered_names()) <= without
    assert {"MaPLe", "PromptSRC", "KgCoOp", "TCP", "CoPrompt", "MultiModalAdapter", "MMRL"} <= trainers
    for figures in read_published(protocol).values():
        assert measure in figures.by_dataset["average"]
        assert figures.source


def write_interrupted_run(folder):
    """Write what a run of VPT leaves that was killed before its result: its config."""
    folder.mkdir()
    content = {
        "DATASET": {
            "NAME": "DescribableTextures", "PATH": "", "TASKS": [], "SUBSAMPLE_CLASSES": "base", "NUM_SHOTS": 16,
        },
        "TRAINER": {"NAME": "VPT", "CONFIG": "vit_b16"}, "MODEL": {"BACKBONE": {"NAME": "ViT-B/16"}}, "SEED": 2,
        "TEST": {"EVAL_ONLY": False},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


def write_sweep(folder, key="fields"):
    """Write the sweep.json of a sweep with one failed run."""
    planned = {
        "dataset": "EuroSAT", "subsample_classes": "new", "trainer": "MaPLe", "config": "vit_b16", "shots": 16,
        "seed": 1, "backbone": "ViT-B/16",
    }  # fmt: skip
    run = {"folder": "../../new/x", "state": "failed", "error": "no such key", key: planned}
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"runs": [run]}))


def test_missing_interrupted_and_failed_runs_are_listed(tmp_path, capsys):
    write_base2new(tmp_path, {("DescribableTextures", 1): (80, 60), ("DescribableTextures", 2): (80, 60)})
    write_base2new(tmp_path, {("DescribableTextures", 1): (80, 60)}, trainer="VPT")
    write_base2new(tmp_path, {("DescribableTextures", 1): (80, 60)}, trainer="ZeroshotCLIP", trained_on="")
    (tmp_path / "new/DescribableTextures/MaPLe/seed2/result.json").unlink()
    write_interrupted_run(tmp_path / "base/DescribableTextures/VPT/seed2")
    write_sweep(tmp_path / "sweeps" / "x")
    rows = {(row["trainer"], row["dataset"]): row for row in rows_of(tmp_path, capsys)}
    assert rows["MaPLe", "DescribableTextures"]["missing"] == ["seed 2 new missing"]
    assert rows["VPT", "DescribableTextures"]["missing"] == ["seed 2 base cut off", "seed 2 new missing"]
    assert rows["ZeroshotCLIP", "DescribableTextures"]["missing"] == []  # every seed has the same result
    assert "seed 1 new failed: no such key" in rows["MaPLe", "EuroSAT"]["missing"]
    assert rows["MaPLe", "EuroSAT"]["base"] is None
    assert rows["VPT", "average"]["missing"][0] == "EuroSAT"


@pytest.mark.parametrize("key", ["fields", "facts"])  # older sweeps have `facts`
def test_a_report_of_a_sweep_has_its_planned_runs_only(key, tmp_path):
    write_base2new(tmp_path, ACCURACIES)
    write_sweep(tmp_path / "sweeps" / "x", key)
    runs, _ = read(tmp_path / "sweeps" / "x")
    assert list(runs["state"]) == ["failed"]


def test_options_distinguish_runs_of_one_config(tmp_path, capsys):
    for length in (4, 16):
        write_result(tmp_path / f"nctx{length}" / "seed1", subsample_classes="all", accuracy=50.0 + length,
                     options={"N_CTX": length, "CSC": False})  # fmt: skip
    options = {"N_CTX": 16, "CSC": False}
    write_result(tmp_path / "again" / "seed1", subsample_classes="all", accuracy=1.0, options=options)
    assert report.main([str(tmp_path), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    rows = [row for row in json.loads(out) if row["dataset"] != "average"]
    assert {row["config"]: row["accuracy"] for row in rows} == {"vit_b16 N_CTX=16": 1.0, "vit_b16 N_CTX=4": 54.0}
    assert "nctx16/seed1, because it has the same settings as another run" in err  # a duplicate is dropped with a note


def test_every_format(tmp_path, capsys):
    write_base2new(tmp_path, ACCURACIES)
    texts = {}
    for form in report.FORMS:
        assert report.main([str(tmp_path), "--format", form]) == 0
        texts[form] = capsys.readouterr().out
    assert "81.00 ± 1.00" in texts["terminal"]
    assert (
        "| MaPLe     | vit_b16  | ViT-B/16   | DescribableTextures | 16      | 81.00 ± 1.00 | +0.64"
        in texts["markdown"]
    )
    assert r"vit\_b16 & ViT-B/16 & DescribableTextures & 16 & 81.00 $\pm$ 1.00" in texts["latex"]
    lines = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [float(line["base"]) for line in lines] == [row["base"] for row in json.loads(texts["json"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "doesn't exist"), ("", "no run below"), ("{}", "isn't a result"), ("{", "not valid JSON")],
)
def test_a_folder_without_valid_results_is_an_error(content, message, tmp_path, capsys):
    folder = tmp_path / "x"
    if content is not None:
        folder.mkdir()
    if content:
        (folder / "result.json").write_text(content)
    assert report.main([str(folder)]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(ReportError):
        read(folder)


def test_both_commands_run_as_scripts(tmp_path):
    write_base2new(tmp_path, ACCURACIES)
    for script in (["report.py", tmp_path], ["parse_test_res.py", tmp_path / "base/EuroSAT/MaPLe"]):
        done = subprocess.run([sys.executable, *script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "MaPLe" in done.stdout


@pytest.mark.parametrize("script", ["report.py", "parse_test_res.py"])
def test_help_imports_no_heavy_package(script):
    code = f"import sys; sys.argv = ['x', '--help']; import runpy\ntry: runpy.run_path('{script}', run_name='__main__')"
    code += "\nexcept SystemExit: print(*{'numpy', 'pandas', 'matplotlib', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == ""
