"""The tools beside the trainers: linear probe, nearest words, complexity table, small CLIP."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, result_of

from clip.loading import load_clip


def module(path: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def features(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(classes), count)
    return np.eye(classes, 8)[labels] + 0.4 * rng.randn(len(labels), 8), labels


def test_the_search_finds_the_best_penalty():
    from trainers.linear_probe import COARSE, fit, search

    train, val = features(4, 4, 0), features(4, 20, 1)
    best = search(train, val)
    scores = [fit(*train, strength).score(*val) for strength in COARSE]
    assert fit(*train, best).score(*val) >= max(scores)


def test_linear_probe_scripts(tmp_path, own_data, tiny_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    extractor, probe = module("lpclip/feat_extractor.py"), module("lpclip/linear_probe.py")
    for split in ("train", "val", "test"):
        words = f"--split {split} --seed 1 --output-dir clip_feat --root . DATALOADER.NUM_WORKERS 0 INPUT.SIZE (32,32)"
        words += f" --dataset-config-file {ROOT}/configs/datasets/folder.yaml DATASET.PATH {own_data}"
        words += f" --config-file {ROOT}/configs/trainers/CoOp/rn50_val.yaml MODEL.BACKBONE.PATH {tiny_path}"
        assert extractor.main(words.split()) == 0, capsys.readouterr().err
    content = np.load("clip_feat/Folder/train.npz")
    assert content["feature_list"].shape == (12, 64)
    assert sorted(set(content["label_list"])) == [0, 1, 2, 3]
    assert probe.main(["--dataset", "Folder", "--feature_dir", "clip_feat", "--num_step", "2", "--num_run", "2"]) == 0
    rows = json.loads(Path("report/Folder.json").read_text())
    assert [row["shots"] for row in rows] == [1, 2, 4, 8, 16]
    assert rows[-1]["accuracy"] > 40  # the colours are easy, even for random features; chance is 25
    assert probe.main(["--dataset", "Nothing", "--feature_dir", "clip_feat"]) == 2
    assert "feat_extractor" in capsys.readouterr().err


def test_the_probe_as_a_trainer_beats_chance(run, tmp_path):
    code, out, err = run("DATASET.NUM_SHOTS", 3, trainer="LinearProbe")
    assert code == 0, err
    assert "C = " in out
    assert result_of(tmp_path / "out")["accuracy"] > 40
    assert "Finished already" in run("DATASET.NUM_SHOTS", 3, trainer="LinearProbe")[1]


@pytest.mark.parametrize("trainer", ["MaPLe", "CoOp", "IVLP", "SoftCPT"])
def test_nearest_words_of_prompts(trainer, run, tmp_path, tiny_path, capsys):
    """Prompts that are words' embeddings have these words as their nearest, at distance 0."""
    assert run(trainer=trainer)[0] == 0
    interpret = module("interpret_prompts/interpret_prompt.py")
    embedding = load_clip("", tiny_path).token_embedding.weight
    files = sorted(tmp_path.glob("out/*/model.pth.tar-1"))
    found = 0
    for file in files:
        checkpoint = torch.load(file, weights_only=True)
        for name, tensor in checkpoint["state_dict"].items():
            if tensor.shape[-1] == 128 and ("ctx" in name or "text" in name) and tensor.ndim == 2:
                checkpoint["state_dict"][name] = embedding[1000 : 1000 + len(tensor)]
        torch.save(checkpoint, file)
        capsys.readouterr()
        code = interpret.main([str(file), "3", "--json", str(tmp_path / "words.json")])
        out, err = capsys.readouterr()
        if code == 2:
            assert "has no text prompts" in err
            continue
        rows = json.loads((tmp_path / "words.json").read_text())
        assert len(out.strip().splitlines()) == len(rows)
        assert all(len(row["words"]) == 3 for row in rows)
        zeros = [row for row in rows if row["words"][0]["distance"] < 1e-2]
        assert zeros
        found += len(zeros)
    assert found


def test_complexity(capsys):
    complexity = module("benchmarks/complexity.py")
    words = "--trainers MaPLe ZeroshotCLIP VPT --backbone vit_b32 --classes 3 --batch 2 --repeats 1"
    assert complexity.main(words.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {row["trainer"]: row for row in json.loads(lines[-1])["rows"]}
    assert rows["MaPLe"]["parameters"] == 3_555_072
    assert rows["ZeroshotCLIP"]["parameters"] == 0
    assert rows["MaPLe"]["gflops_all"] > rows["MaPLe"]["gflops"] > rows["ZeroshotCLIP"]["gflops"] > 8
    assert rows["VPT"]["train_images_per_second"] > 0
    assert (
        complexity.main(
            ["--trainers", "MaPLe", "CoOp", "--backbone", "rn50", "--classes", "2", "--batch", "1", "--repeats", "1"]
        )
        == 0
    )
    assert re.search(r"MaPLe +the image tower is a ResNet", capsys.readouterr().out)
