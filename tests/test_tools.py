"""The linear probe, the nearest words of prompts, and the table of benchmarks/complexity.py."""

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
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def features(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(classes), count)
    return np.eye(classes, 8)[labels] + 0.4 * rng.randn(len(labels), 8), labels


def test_the_search_finds_a_penalty_at_least_as_good_as_the_coarse_ones():
    from trainers.linear_probe import COARSE, fit, search

    train, val = features(4, 4, 0), features(4, 20, 1)
    best = search(train, val)
    scores = [fit(*train, strength).score(*val) for strength in COARSE]
    assert fit(*train, best).score(*val) >= max(scores)


def test_the_original_linear_probe_scripts(tmp_path, own_data, tiny_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    extractor, probe = module("lpclip/feat_extractor.py"), module("lpclip/linear_probe.py")
    for split in ("train", "val", "test"):
        arguments = (
            f"--split {split} --seed 1 --output-dir clip_feat --root . DATALOADER.NUM_WORKERS 0 INPUT.SIZE (32,32)"
        )
        arguments += f" --dataset-config-file {ROOT}/configs/datasets/folder.yaml DATASET.PATH {own_data}"
        arguments += f" --config-file {ROOT}/configs/trainers/CoOp/rn50_val.yaml MODEL.BACKBONE.PATH {tiny_path}"
        assert extractor.main(arguments.split()) == 0, capsys.readouterr().err
    content = np.load("clip_feat/Folder/train.npz")
    assert content["feature_list"].shape == (12, 64)
    assert sorted(set(content["label_list"])) == [0, 1, 2, 3]
    assert probe.main(["--dataset", "Folder", "--feature_dir", "clip_feat", "--num_step", "2", "--num_run", "2"]) == 0
    rows = json.loads(Path("report/Folder.json").read_text())
    assert [row["shots"] for row in rows] == [1, 2, 4, 8, 16]
    assert rows[-1]["accuracy"] > 40  # chance is 25; colours are easy even for random features
    assert probe.main(["--dataset", "Nothing", "--feature_dir", "clip_feat"]) == 2
    assert "feat_extractor" in capsys.readouterr().err


def test_the_linear_probe_as_a_trainer(run, tmp_path):
    code, out, err = run("DATASET.NUM_SHOTS", 3, trainer="LinearProbe")
    assert code == 0, err
    assert "C = " in out
    assert result_of(tmp_path / "out")["accuracy"] > 40
    assert "Finished already" in run("DATASET.NUM_SHOTS", 3, trainer="LinearProbe")[1]


@pytest.mark.parametrize("trainer", ["MaPLe", "CoOp", "IVLP", "SoftCPT"])
def test_nearest_words(trainer, run, tmp_path, tiny_path, capsys):
    """A prompt that is set to the embeddings of words has these words at distance 0."""
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


@pytest.mark.slow
def test_the_complexity_table(capsys):
    complexity = module("benchmarks/complexity.py")
    arguments = "--trainers MaPLe,ZeroshotCLIP VPT --backbone vit_b32 --classes 3 --batch 2 --repeats 1"
    assert complexity.main(arguments.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {row["trainer"]: row for row in json.loads(lines[-1])["rows"]}
    assert rows["MaPLe"]["parameters"] == 3_555_072
    assert rows["ZeroshotCLIP"]["parameters"] == 0
    assert rows["MaPLe"]["gflops_all"] > rows["MaPLe"]["gflops"] > rows["ZeroshotCLIP"]["gflops"] > 8
    assert rows["VPT"]["train_images_per_second"] > 0


def test_the_complexity_table_skips_methods_that_need_a_vit(capsys):
    complexity = module("benchmarks/complexity.py")
    arguments = "--trainers MaPLe CoOp --backbone rn50 --classes 2 --batch 1 --repeats 1"
    assert complexity.main(arguments.split()) == 0
    assert re.search(r"MaPLe +the image tower is a ResNet", capsys.readouterr().out)
