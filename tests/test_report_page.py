"""The HTML page of report.py, and parse_test_res.py."""

import io
import json

import numpy as np
import pytest
from report_runs import write_result

import parse_test_res
import report


@pytest.fixture
def swept(tmp_path, run, own_data):
    """The page of made-up runs of three methods at two depths, lengths, shots and seeds, and a real run."""
    rng = np.random.RandomState(0)
    for trainer in ("ZeroshotCLIP", "MaPLe", "IVLP"):
        for seed in (1, 2):
            for name, depth, length in (("depth1", 1, 2), ("depth3", 3, 2), ("length1", 3, 1), ("length2", 3, 2)):
                for part in ("base", "new"):
                    folder = tmp_path / "runs" / part / trainer / name / f"seed{seed}"
                    classes = {name: float(rng.randint(100)) for name in ("cat", "dog", "cow")}
                    write_result(folder, trainer=trainer, seed=seed, subsample_classes=part, config=f"c_{name}",
                          accuracy=float(np.mean(list(classes.values()))), per_class=classes,
                          options={"PROMPT_DEPTH": depth, "N_CTX": length})  # fmt: skip
                    lines = [json.dumps({"epoch": 1, "batch": n, "loss": 3 / n}) + "\n" for n in range(1, 20)]
                    (folder / "metrics.jsonl").write_text("".join(lines))
                    scores = [{"epoch": n, "base": 20 * n + seed, "new": 40 - n} for n in range(1, 4)]
                    (folder / "epochs.json").write_text(json.dumps(scores if part == "base" else []))
            for shots in (1, 4):
                folder = tmp_path / "runs" / "all" / trainer / f"{shots}" / f"seed{seed}"
                accuracy = 50.0 + shots + seed
                write_result(
                    folder, trainer=trainer, seed=seed, subsample_classes="all", shots=shots, accuracy=accuracy
                )
    assert run("TEST.SAVE_PREDICTIONS", "True", output=tmp_path / "runs" / "real" / "seed1")[0] == 0
    file = tmp_path / "report.html"
    assert report.main([str(tmp_path / "runs"), "--html", str(file)]) == 0
    return file


PLOTS = [
    "base2new-bars", "base2new-depth", "base2new-length", "base2new-scatter", "few_shot-bars", "few_shot-shots",
    "training", "epochs", "classes", "confusion", "worst",
]  # fmt: skip


def test_a_browser_shows_every_plot_without_requests(swept, browser):
    """Chromium reports no error and no request, and no plot is blank."""
    from PIL import Image

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
    assert not errors
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def test_the_page_has_all_plots_and_no_links(swept):
    text = swept.read_text()
    assert all(f'<figure id="{name}">' in text for name in PLOTS)
    assert "http://www.w3.org" in text  # the name of a format, not a link
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert "<script" not in text


def test_compare_chooses_two_trainers(swept, capsys):
    arguments = ["--html", str(swept), "--compare"]
    assert report.main([str(swept.parent / "runs"), *arguments, "MaPLe,IVLP"]) == 0
    assert "IVLP against MaPLe, by class" in swept.read_text()
    assert report.main([str(swept.parent / "runs"), *arguments, "MaPLe,Nope"]) == 2
    assert "There is: IVLP, MaPLe, ZeroshotCLIP" in capsys.readouterr().err


def test_parse_test_res_prints_what_the_original_prints(tmp_path, capsys):
    for seed, accuracy in ((1, 80.0), (2, 82.0), (3, 81.0)):
        write_result(tmp_path / "x" / f"seed{seed}", accuracy=accuracy)
        write_result(tmp_path / "y" / f"seed{seed}", accuracy=accuracy - 10)
    assert parse_test_res.main([str(tmp_path / "x"), "--test-log"]) == 0
    assert f"* accuracy: 81.00% +- {np.std([80, 82, 81]):.2f}%" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path / "x"), "--ci95", "--keyword", "macro_f1"]) == 0
    assert "* macro_f1: 50.00% +- 0.00%" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path), "--multi-exp"]) == 0
    assert capsys.readouterr().out.endswith("Average performance\n* accuracy: 76.00%\n")
    assert parse_test_res.main([str(tmp_path / "x"), "--keyword", "nope"]) == 2
    assert "There is: macro_f1, accuracy" in capsys.readouterr().err
    assert parse_test_res.main([str(tmp_path)]) == 2
