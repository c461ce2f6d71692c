"""report.py and parse_test_res.py: figures as computed by hand, gaps named, plots there."""

import csv
import io
import json
import math
import shutil
import statistics
import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import ROOT, SHARED

import parse_test_res
import report
from reporting import tables
from reporting.read import ReportError, read


def write(folder, **facts):
    """A result.json, as a run leaves it."""
    result = {
        "dataset": "DescribableTextures", "trained_on": "DescribableTextures", "test_only": False, "split": "test",
        "subsample_classes": "base", "trainer": "MaPLe", "backbone": "ViT-B/16", "config": "vit_b16", "shots": 16,
        "options": {"PROMPT_DEPTH": 9, "N_CTX": 2}, "seed": 1, "macro_f1": 50.0,
    } | facts  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))


def base2new(folder, accuracies, **facts):
    """Results of base and new classes: accuracies[(data set, seed)] = base, new."""
    for (dataset, seed), pair in accuracies.items():
        for part, accuracy in zip(("base", "new"), pair, strict=True):
            place = folder / part / dataset / facts.get("trainer", "MaPLe") / f"seed{seed}"
            write(place, dataset=dataset, subsample_classes=part, seed=seed, accuracy=accuracy, **facts)


ACCURACIES = {
    ("DescribableTextures", 1): (80.0, 60.0), ("DescribableTextures", 2): (82.0, 56.0),
    ("DescribableTextures", 3): (81.0, 58.0), ("EuroSAT", 1): (92.0, 70.0), ("EuroSAT", 2): (95.0, 75.0),
    ("EuroSAT", 3): (94.0, 68.0),
}  # fmt: skip


def rows_of(folder, capsys, *words):
    assert report.main([str(folder), "--format", "json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_figures_are_those_computed_by_hand(tmp_path, capsys):
    base2new(tmp_path, ACCURACIES)
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


def test_published_figures_stand_beside_ours(tmp_path, capsys):
    base2new(tmp_path, ACCURACIES)
    base2new(tmp_path / "rn50", ACCURACIES, backbone="RN50", config="rn50")
    rows = {(row["backbone"], row["dataset"]): row for row in rows_of(tmp_path, capsys)}
    dtd = rows["ViT-B/16", "DescribableTextures"]  # published: 80.36, 59.18
    assert (dtd["base_paper"], dtd["base_diff"]) == pytest.approx((80.36, 81 - 80.36))
    assert (dtd["base_off"], dtd["new_off"]) == (False, False)
    base2new(tmp_path, {("EuroSAT", seed): (90.0 + seed / 100, 70.0) for seed in (1, 2, 3)})
    eurosat = next(row for row in rows_of(tmp_path, capsys) if row["dataset"] == "EuroSAT")
    assert eurosat["base_off"] is True
    assert "base_paper" not in rows["RN50", "DescribableTextures"]
    assert "base_paper" not in rows["ViT-B/16", "average"]  # over 11 data sets there, 2 here


@pytest.mark.parametrize("paper", [tables.PAPER, SHARED / "paper_results.json"])
def test_published_figures_as_results_give_the_published_averages(paper, tmp_path, capsys):
    if not paper.is_file():
        pytest.skip(f"no {paper}")
    published = json.loads(paper.read_text())
    for trainer, datasets in published["base2new"].items():
        base2new(tmp_path, {(name, 1): (v["base"], v["new"]) for name, v in datasets.items()}, trainer=trainer)
    rows = {row["trainer"]: row for row in rows_of(tmp_path, capsys) if row["dataset"] == "average"}
    assert [round(rows["MaPLe"][name], 2) for name in ("base", "new", "hm")] == [82.28, 75.14, 78.55]
    for trainer, row in rows.items():
        assert [row["base"], row["new"], row["hm"]] == pytest.approx(published["base2new_average"][trainer], abs=0.0051)
        assert abs(row["hm_diff"]) < 0.0051


def test_missing_cut_off_and_failed_runs_are_named(tmp_path, capsys):
    base2new(tmp_path, {("DescribableTextures", 1): (80, 60), ("DescribableTextures", 2): (80, 60)})
    base2new(tmp_path, {("DescribableTextures", 1): (80, 60)}, trainer="VPT")
    base2new(tmp_path, {("DescribableTextures", 1): (80, 60)}, trainer="ZeroshotCLIP", trained_on="")
    (tmp_path / "new/DescribableTextures/MaPLe/seed2/result.json").unlink()
    cut = tmp_path / "base/DescribableTextures/VPT/seed2"
    cut.mkdir()
    (cut / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "DATASET": {"NAME": "DescribableTextures", "PATH": "", "TASKS": [], "SUBSAMPLE_CLASSES": "base",
                            "NUM_SHOTS": 16},
                "TRAINER": {"NAME": "VPT", "CONFIG": "vit_b16"}, "MODEL": {"BACKBONE": {"NAME": "ViT-B/16"}}, "SEED": 2,
                "TEST": {"EVAL_ONLY": False},
            }
        )
    )  # fmt: skip
    planned = {"folder": "../../new/x", "state": "failed", "error": "no such key", "facts": {
        "dataset": "EuroSAT", "subsample_classes": "new", "trainer": "MaPLe", "config": "vit_b16", "shots": 16,
        "seed": 1, "backbone": "ViT-B/16",
    }}  # fmt: skip
    sweep = tmp_path / "sweeps" / "x"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text(json.dumps({"runs": [planned]}))
    rows = {(row["trainer"], row["dataset"]): row for row in rows_of(tmp_path, capsys)}
    assert rows["MaPLe", "DescribableTextures"]["missing"] == ["seed 2 new missing"]
    assert rows["VPT", "DescribableTextures"]["missing"] == ["seed 2 base cut off", "seed 2 new missing"]
    assert rows["ZeroshotCLIP", "DescribableTextures"]["missing"] == []  # no seed changes it
    assert "seed 1 new failed: no such key" in rows["MaPLe", "EuroSAT"]["missing"]
    assert rows["MaPLe", "EuroSAT"]["base"] is None
    assert rows["VPT", "average"]["missing"][0] == "EuroSAT"
    only = read(sweep)[0]
    assert list(only["state"]) == ["failed"]


def test_options_tell_runs_of_one_config_apart(tmp_path, capsys):
    for length in (4, 16):
        write(tmp_path / f"nctx{length}" / "seed1", subsample_classes="all", accuracy=50.0 + length,
              options={"N_CTX": length, "CSC": False})  # fmt: skip
    write(tmp_path / "again" / "seed1", subsample_classes="all", accuracy=1.0, options={"N_CTX": 16, "CSC": False})
    assert report.main([str(tmp_path), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    rows = [row for row in json.loads(out) if row["dataset"] != "average"]
    assert {row["config"]: row["accuracy"] for row in rows} == {"vit_b16 N_CTX=16": 1.0, "vit_b16 N_CTX=4": 54.0}
    assert "nctx16/seed1 repeats another" in err  # one of the two is left out, and said


def test_cross_dataset_and_domain_generalisation(tmp_path, capsys):
    for seed in (1, 2):
        facts = {"subsample_classes": "all", "seed": seed, "trained_on": "ImageNet"}
        write(tmp_path / f"imagenet/MaPLe/seed{seed}", dataset="ImageNet", accuracy=70.0, **facts)
        for dataset, test_only in (("EuroSAT", False), ("UCF101", False), ("ImageNetV2", True)):
            write(tmp_path / f"evaluation/MaPLe/{dataset}/seed{seed}", dataset=dataset, accuracy=60.0 + seed,
                  test_only=test_only, **facts)  # fmt: skip
    rows = {row["dataset"]: row for row in rows_of(tmp_path, capsys, "--protocol", "cross_dataset")}
    assert list(rows) == ["ImageNet (source)", "EuroSAT", "UCF101", "average"]
    assert (rows["ImageNet (source)"]["accuracy"], rows["average"]["accuracy"]) == (70.0, 61.5)
    assert rows["EuroSAT"]["accuracy_paper"] == 48.06
    rows = {row["dataset"]: row for row in rows_of(tmp_path, capsys, "--protocol", "domain_generalization")}
    assert list(rows) == ["ImageNet (source)", "ImageNetV2", "average"]
    assert report.main([str(tmp_path), "--protocol", "few_shot"]) == 2


def test_every_format(tmp_path, capsys):
    base2new(tmp_path, ACCURACIES)
    texts = {}
    for form in report.FORMS:
        assert report.main([str(tmp_path), "--format", form]) == 0
        texts[form] = capsys.readouterr().out
    assert "81.00 ± 1.00" in texts["terminal"]
    assert "| MaPLe     | vit_b16  | DescribableTextures | 16      | 81.00 ± 1.00 | +0.64" in texts["markdown"]
    assert r"vit\_b16 & DescribableTextures & 16 & 81.00 $\pm$ 1.00" in texts["latex"]
    lines = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [float(line["base"]) for line in lines] == [row["base"] for row in json.loads(texts["json"])]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no folder"), ("", "no run below"), ("{}", "is no result"), ("{", "not valid JSON")]
)
def test_nothing_to_report_is_said(content, message, tmp_path, capsys):
    folder = tmp_path / "x"
    if content is not None:
        folder.mkdir()
    if content:
        (folder / "result.json").write_text(content)
    assert report.main([str(folder)]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(ReportError):
        read(folder)


# ---- the page ----


@pytest.fixture
def swept(tmp_path, run, own_data):
    """Runs of three methods at two depths, lengths, numbers of shots and seeds, as if; one with real predictions."""
    rng = np.random.RandomState(0)
    for trainer in ("ZeroshotCLIP", "MaPLe", "IVLP"):
        for seed in (1, 2):
            for name, depth, length in (("depth1", 1, 2), ("depth3", 3, 2), ("length1", 3, 1), ("length2", 3, 2)):
                for part in ("base", "new"):
                    folder = tmp_path / "runs" / part / trainer / name / f"seed{seed}"
                    classes = {name: float(rng.randint(100)) for name in ("cat", "dog", "cow")}
                    write(folder, trainer=trainer, seed=seed, subsample_classes=part, config=f"c_{name}",
                          accuracy=float(np.mean(list(classes.values()))), per_class=classes,
                          options={"PROMPT_DEPTH": depth, "N_CTX": length})  # fmt: skip
                    lines = [json.dumps({"epoch": 1, "batch": n, "loss": 3 / n}) + "\n" for n in range(1, 20)]
                    (folder / "metrics.jsonl").write_text("".join(lines))
            for shots in (1, 4):
                write(tmp_path / "runs" / "all" / trainer / f"{shots}" / f"seed{seed}", trainer=trainer, seed=seed,
                      subsample_classes="all", shots=shots, accuracy=50.0 + shots + seed)  # fmt: skip
    assert run("TEST.SAVE_PREDICTIONS", "True", output=tmp_path / "runs" / "real" / "seed1")[0] == 0
    file = tmp_path / "report.html"
    assert report.main([str(tmp_path / "runs"), "--html", str(file)]) == 0
    return file


PLOTS = [
    "base2new-bars", "base2new-depth", "base2new-length", "base2new-scatter", "few_shot-bars", "few_shot-shots",
    "training", "classes", "confusion", "worst",
]  # fmt: skip


def test_the_page_asks_nothing_of_the_network_and_shows_every_plot(swept):
    """In a browser: no error, no request, and each plot's picture has something in it."""
    browser_of = pytest.importorskip("playwright.sync_api").sync_playwright
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium here")
    from PIL import Image

    with browser_of() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(swept.as_uri())
        assert [figure.get_attribute("id") for figure in page.query_selector_all("figure")] == PLOTS
        for name in PLOTS:
            picture = page.query_selector(f"#{name} svg").screenshot()
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
            assert (pixels != 255).any(-1).mean() > 0.02, name
            assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20, name
        browser.close()
    assert not errors
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def test_the_page_holds_the_tables_and_the_plots(swept):
    text = swept.read_text()
    assert all(f'<figure id="{name}">' in text for name in PLOTS)
    assert "http://www.w3.org" in text  # names of formats, not addresses
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert "<script" not in text


def test_two_methods_can_be_named(swept, capsys):
    words = ["--html", str(swept), "--compare"]
    assert report.main([str(swept.parent / "runs"), *words, "MaPLe,IVLP"]) == 0
    assert "IVLP against MaPLe, by class" in swept.read_text()
    assert report.main([str(swept.parent / "runs"), *words, "MaPLe,Nope"]) == 2
    assert "There is: IVLP, MaPLe, ZeroshotCLIP" in capsys.readouterr().err


# ---- the original parser's arguments ----


def test_parse_test_res_means_what_the_original_means(tmp_path, capsys):
    for seed, accuracy in ((1, 80.0), (2, 82.0), (3, 81.0)):
        write(tmp_path / "x" / f"seed{seed}", accuracy=accuracy)
        write(tmp_path / "y" / f"seed{seed}", accuracy=accuracy - 10)
    assert parse_test_res.main([str(tmp_path / "x"), "--test-log"]) == 0
    assert f"* accuracy: 81.00% +- {np.std([80, 82, 81]):.2f}%" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path / "x"), "--ci95", "--keyword", "macro_f1"]) == 0
    assert "* macro_f1: 50.00% +- 0.00%" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path), "--multi-exp"]) == 0
    assert capsys.readouterr().out.endswith("Average performance\n* accuracy: 76.00%\n")
    assert parse_test_res.main([str(tmp_path / "x"), "--keyword", "nope"]) == 2
    assert "There is: macro_f1, accuracy" in capsys.readouterr().err
    assert parse_test_res.main([str(tmp_path)]) == 2


def test_they_run_as_scripts(tmp_path):
    base2new(tmp_path, ACCURACIES)
    for script in (["report.py", tmp_path], ["parse_test_res.py", tmp_path / "base/EuroSAT/MaPLe"]):
        done = subprocess.run([sys.executable, *script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "MaPLe" in done.stdout
