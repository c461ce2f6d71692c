"""Runs of train.py: what a run leaves, when it is repeated, resumed or skipped."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import torch
import yaml
from conftest import ROOT, result_of


def test_what_a_run_leaves(run, tmp_path, own_data):
    code, _, err = run("TEST.SAVE_PREDICTIONS", "True", "OPTIM.MAX_EPOCH", 2, "TEST.SPLIT", "val")
    assert code == 0, err
    folder = tmp_path / "out"
    result = result_of(folder)
    assert set(result) == {
        "dataset", "trained_on", "test_only", "split", "subsample_classes", "trainer", "backbone", "config", "options",
        "shots", "seed", "epoch", "accuracy", "macro_f1", "ece", "n_total", "n_correct", "per_class", "seconds",
        "threads", "processes",
        "text_chunk", "versions", "command", "protocol", "fingerprint", "prompts", "files", "checksum",
    }  # fmt: skip
    assert (result["dataset"], result["split"], result["shots"], result["seed"]) == (own_data.name, "val", 2, 1)
    assert (result["epoch"], result["config"]) == (2, "vit_b16_c2_ep5_batch4_2ctx")
    assert result["accuracy"] == 100 * result["n_correct"] / result["n_total"]
    predictions = np.load(folder / "predictions.npz")
    hits = predictions["logits"].argmax(1) == predictions["label"]
    assert hits.sum() == result["n_correct"]
    assert all((own_data / path).is_file() for path in predictions["impath"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["batch"]) for line in lines] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    picks = json.loads((folder / "fewshot.json").read_text())
    assert len(picks["train"]) == 8
    assert (own_data / picks["train"][0][0]).is_file()
    assert yaml.safe_load((folder / "config.yaml").read_text())["OPTIM"]["MAX_EPOCH"] == 2
    assert "* accuracy: " in (folder / "log.txt").read_text()
    assert list((folder / "tensorboard").iterdir())
    state = torch.load(folder / "MultiModalPromptLearner/model.pth.tar-2", weights_only=True)
    assert state["epoch"] == 2
    assert "prompt_learner.compound_prompt_projections.0.weight" in state["state_dict"]


def test_a_finished_run_is_not_changed(run, tmp_path):
    """Only inputs.json may change: it holds the hashes of the last command that the full check accepted."""

    def times():
        files = (path for path in (tmp_path / "out").rglob("*") if path.name != "inputs.json")
        return {path: path.stat().st_mtime_ns for path in files}

    assert run()[0] == 0
    before = times()
    code, out, _ = run("DATALOADER.NUM_WORKERS", 1)
    assert code == 0
    assert "Finished already" in out
    code, _, err = run("OPTIM.LR", 0.1)
    assert code == 2
    assert "OPTIM.LR (0.0035 in the file, 0.1 now)" in err
    assert before == times()


def test_the_seed_decides(run, tmp_path):
    prompts = []
    for number, overrides in enumerate([(), ("DATALOADER.NUM_WORKERS", 2), ("SEED", 2)]):
        assert run(*overrides, output=tmp_path / str(number))[0] == 0
        path = tmp_path / str(number) / "MultiModalPromptLearner/model.pth.tar-1"
        prompts.append(torch.load(path, weights_only=True)["state_dict"]["prompt_learner.ctx"])
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


def test_a_killed_run_resumes_to_the_same_bits(run, tmp_path, tiny_path, own_data):
    overrides = ["OPTIM.MAX_EPOCH", "4"]
    assert run(*overrides, output=tmp_path / "whole")[0] == 0
    command = [
        sys.executable, "train.py", "--trainer", "MaPLe", "--seed", "1", "--output-dir", str(tmp_path / "cut"),
        "--dataset-config-file", "configs/datasets/folder.yaml", "MODEL.BACKBONE.PATH", str(tiny_path),
        "INPUT.SIZE", "(32,32)", "DATASET.PATH", str(own_data), "DATASET.NUM_SHOTS", "2",
        "DATALOADER.NUM_WORKERS", "0", "TRAINER.MAPLE.PROMPT_DEPTH", "2", *overrides,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pointer = tmp_path / "cut/MultiModalPromptLearner/checkpoint"
    for _ in range(600):
        if pointer.is_file():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    whole, cut = (
        torch.load(tmp_path / name / "MultiModalPromptLearner/model.pth.tar-4", weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    )
    assert all(torch.equal(cut[name], p) for name, p in whole.items())
    assert result_of(tmp_path / "whole")["per_class"] == result_of(tmp_path / "cut")["per_class"]
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
