"""train.py and the protocol scripts: order of words, folders, finished and unfinished runs, errors in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, make_image, result_of

import train
from experiments import run as protocols


def test_help_needs_no_torch():
    """Parsed before torch is imported."""
    code = "import sys, train; train.parse_arguments(['--seed', '1']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_words_in_any_order_and_the_last_wins():
    words = [
        "OPTIM.LR",
        "0.1",
        "--seed",
        "1",
        "DATASET.NUM_SHOTS",
        "4",
        "--trainer",
        "MaPLe",
        "--seed",
        "2",
        "OPTIM.LR",
        "0.2",
        "SEED",
        "-1",
    ]
    args = train.parse_arguments(words)
    assert (args.seed, args.trainer) == (2, "MaPLe")
    assert args.opts == ["OPTIM.LR", "0.1", "DATASET.NUM_SHOTS", "4", "OPTIM.LR", "0.2", "SEED", "-1"]


def build(*words):
    return train.build_config(train.parse_arguments([*map(str, words)]))


def test_precedence_and_defaults(tmp_path):
    dataset = ("--dataset-config-file", "configs/datasets/dtd.yaml")
    cfg = build("--trainer", "MaPLe", *dataset)
    assert cfg.TRAINER.CONFIG == "vit_b16_c2_ep5_batch4_2ctx"
    assert (cfg.OPTIM.LR, cfg.TRAINER.MAPLE.PROMPT_DEPTH, cfg.DATASET.NAME) == (0.0035, 9, "DescribableTextures")
    assert cfg.DATASET.SUBSAMPLE_CLASSES == "all"
    cfg = build("--trainer", "MaPLe", *dataset, "--seed", 0, "--backbone", "RN50", "OPTIM.LR", 1, "--head", "mlp")
    assert (cfg.SEED, cfg.MODEL.BACKBONE.NAME, cfg.OPTIM.LR, cfg.MODEL.HEAD.NAME) == (0, "RN50", 1.0, "mlp")
    flags = ("--transforms", "normalize", "--source-domains", "a", "--target-domains", "b", "c", "--root", tmp_path)
    cfg = build("--trainer", "MaPLe", *flags, "--resume", "r")
    assert cfg.INPUT.TRANSFORMS == ("normalize",)
    assert (cfg.DATASET.SOURCE_DOMAINS, cfg.DATASET.TARGET_DOMAINS) == (("a",), ("b", "c"))
    assert (str(tmp_path), "r") == (cfg.DATASET.ROOT, cfg.RESUME)


def test_a_data_set_keeps_its_own_backbone_and_size(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text('DATASET:\n  NAME: "Folder"\nMODEL:\n  BACKBONE:\n    NAME: "Mini"\nINPUT:\n  SIZE: (48, 48)\n')
    cfg = build("--trainer", "MaPLe", "--dataset-config-file", own)
    assert (cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION) == ("Mini", (48, 48), "bicubic")
    assert build("--trainer", "MaPLe", "--dataset-config-file", own, "--backbone", "X").MODEL.BACKBONE.NAME == "X"


# ---- results ----


def test_what_a_run_leaves(run, tmp_path, own_data):
    code, _, err = run("TEST.SAVE_PREDICTIONS", "True", "OPTIM.MAX_EPOCH", 2, "TEST.SPLIT", "val")
    assert code == 0, err
    folder = tmp_path / "out"
    result = result_of(folder)
    assert set(result) == {
        "dataset", "trained_on", "test_only", "split", "subsample_classes", "trainer", "backbone", "config", "options",
        "shots", "seed", "epoch", "accuracy", "macro_f1", "n_total", "n_correct", "per_class", "seconds", "threads",
        "text_chunk", "versions", "command", "protocol",
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


def test_a_finished_run_is_kept(run, tmp_path):
    assert run()[0] == 0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    code, out, _ = run("DATALOADER.NUM_WORKERS", 1)
    assert code == 0
    assert "Finished already" in out
    code, _, err = run("OPTIM.LR", 0.1)
    assert code == 2
    assert "OPTIM.LR (0.0035 in the file, 0.1 now)" in err
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_the_seed_decides(run, tmp_path):
    prompts = []
    for number, words in enumerate([(), ("DATALOADER.NUM_WORKERS", 2), ("SEED", 2)]):
        assert run(*words, output=tmp_path / str(number))[0] == 0
        path = tmp_path / str(number) / "MultiModalPromptLearner/model.pth.tar-1"
        prompts.append(torch.load(path, weights_only=True)["state_dict"]["prompt_learner.ctx"])
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


def test_killed_and_started_again_it_ends_the_same(run, tmp_path, tiny_path, own_data):
    words = ["OPTIM.MAX_EPOCH", "4"]
    assert run(*words, output=tmp_path / "whole")[0] == 0
    command = [
        sys.executable, "train.py", "--trainer", "MaPLe", "--seed", "1", "--output-dir", str(tmp_path / "cut"),
        "--dataset-config-file", "configs/datasets/folder.yaml", "MODEL.BACKBONE.PATH", str(tiny_path),
        "INPUT.SIZE", "(32,32)", "DATASET.PATH", str(own_data), "DATASET.NUM_SHOTS", "2",
        "DATALOADER.NUM_WORKERS", "0", "TRAINER.MAPLE.PROMPT_DEPTH", "2", *words,
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


# ---- errors: one clear line, and nothing finished is touched ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainer", "MaPLee"], "Did you mean MaPLe"),
        (["--trainer", ""], "say which trainer by --trainer"),
        (["TRAINER.NAME", "CoOp"], "not by TRAINER.NAME"),
        (["DATASET.NAME", "Foldr"], "Did you mean Folder"),
        (["OPTIM.LEARNING_RATE", "1"], "unknown config key 'OPTIM.LEARNING_RATE'"),
        (["OPTIM.LR"], "has no value"),
        (["OPTIM.MAX_EPOCH", "many"], "takes a int"),
        (["INPUT.TRANSFORMS", "['random_flop']"], "Did you mean random_flip"),
        (["MODEL.BACKBONE.PATH", "", "MODEL.BACKBONE.NAME", "ViT-B/17"], "ViT-B/16"),
        (["MODEL.BACKBONE.PATH", "/nowhere/x.pt"], "/nowhere/x.pt"),
        (["INPUT.SIZE", "(64,64)"], 'add INPUT.SIZE "(32,32)"'),
        (["INPUT.PIXEL_MEAN", "[0.5,0.5,0.5]"], "add INPUT.PIXEL_MEAN"),
        (["DATASET.PATH", "/nowhere"], "no /nowhere"),
        (["DATASET.NAME", "Caltech101"], "DATASET.PATH is for one's own data"),
        (["DATASET.NAME", "Caltech101", "DATASET.PATH", ""], "caltech-101/ below it must hold 101_ObjectCategories/"),
        (["DATASET.SUBSAMPLE_CLASSES", "old"], "all, base, new"),
        (["OPTIM.NAME", "sdg"], "Did you mean sgd"),
        (["OPTIM.LR", "-1"], "OPTIM.LR must be at least 0"),
        (["DATALOADER.TEST.BATCH_SIZE", "0"], "DATALOADER.TEST.BATCH_SIZE must be at least 1"),
        (["INPUT.SIZE", "(32,32,32)"], "INPUT.SIZE must be (height, width)"),
        (["TEST.FINAL_MODEL", "best-val"], "Did you mean best_val"),
        (["TEST.SPLIT", "trial"], "test, val"),
        (["--config-file", "configs/trainers/MaPLe/none.yaml"], "vit_b16_c2_ep5_batch4_2ctx.yaml"),
        (["--dataset-config-file", "configs/datasets/none.yaml"], "configs/datasets/dtd.yaml"),
        (["--eval-only"], "--eval-only needs --model-dir"),
        (["--eval-only", "--model-dir", "/nowhere"], "/nowhere/MultiModalPromptLearner"),
        (["DATASET.TEMPLATE", "a photo.", "--trainer", "ZeroshotCLIP"], "must have one {} for the class name"),
    ],
)
def test_a_wrong_word_is_one_clear_line(run, words, message):
    code, _, err = run(*words)
    lines = [line for line in err.splitlines() if not line.startswith("test:")]
    assert code in (1, 2)
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image_is_one_clear_line(run, own_data, tmp_path, workers):
    data = tmp_path / "data"
    shutil.copytree(own_data, data)
    for number in range(6):
        make_image(data / "blue" / f"{number}.jpg", (0, 0, 200), number)
        (data / "blue" / f"{number}.png").unlink()
        content = (data / "blue" / f"{number}.jpg").read_bytes()
        (data / "blue" / f"{number}.jpg").write_bytes(content[: len(content) // 2])
    code, _, err = run("DATASET.PATH", data, "DATALOADER.NUM_WORKERS", workers)
    assert code == 2
    assert err.count("error: can't read the image") == 1
    assert "Traceback" not in err
    assert "blue" in err


def test_unreadable_files_are_one_clear_line(run, tmp_path, own_data):
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04 broken")
    code, _, err = run("MODEL.BACKBONE.PATH", tmp_path / "bad.pt")
    assert code == 2
    assert "bad.pt" in err
    folder = tmp_path / "prompts/MultiModalPromptLearner"
    folder.mkdir(parents=True)
    (folder / "model.pth.tar-1").write_bytes(b"broken")
    code, _, err = run("--eval-only", "--model-dir", tmp_path / "prompts")
    assert code == 2
    assert err.startswith("error: can't read the checkpoint")
    shutil.copytree(own_data, tmp_path / "data")
    (tmp_path / "data/violet").mkdir()
    code, _, err = run("DATASET.PATH", tmp_path / "data")
    assert code == 2
    assert "violet has no images" in err


def test_debug_shows_the_traceback(run):
    with pytest.raises(ValueError, match="MaPLe"):
        run("--debug", "--trainer", "MaPLee")


# ---- the protocol scripts ----


def script(name, *words, cwd, **env):
    command = ["bash", str(ROOT / "scripts" / name), *map(str, words)]
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"} | env
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def planned(name, spec, *words):
    """Output and model folders that a protocol's runs get; `words` are the user's."""
    protocol, (trainer, _, config) = protocols.PROTOCOLS[name], spec.partition(":")
    needed = protocol.words.lower().split()
    given = {"seed": "1"} | dict(zip(needed, words, strict=False))
    plans = []
    for run in protocol.runs:
        words_of_train = protocols.command(run, trainer, config, given, list(words[len(needed) :])).words
        args = train.parse_arguments(words_of_train)
        plans.append((args.output_dir, args.model_dir))
    return plans


CROSS = "MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets_16shots"
MINI = "MaPLe/vit_mini8_cross_datasets_16shots"
COMMON = "dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed1"
COOP = "CoOp/rn50_16shots/nctx16_cscFalse_ctpend"


@pytest.mark.parametrize(
    ("name", "spec", "words", "folders"),
    [
        ("base2new_train", "MaPLe", "dtd 1", [(f"base2new/train_base/{COMMON}", "")]),
        ("base2new_test", "MaPLe", "dtd 1", [(f"base2new/test_new/{COMMON}", f"output/base2new/train_base/{COMMON}")]),
        ("xd_train", "MaPLe", "imagenet 1", [(f"imagenet/{CROSS}/seed1", "")]),
        ("xd_test", "MaPLe", "dtd 1", [(f"evaluation/{CROSS}/dtd/seed1", f"output/imagenet/{CROSS}/seed1")]),
        ("xd_test", "MaPLe", "emoji_a 1", [(f"evaluation/{MINI}/emoji_a/seed1", f"output/emoji/{MINI}/seed1")]),
        ("few_shot", "MaPLe", "dtd 1", [("dtd/MaPLe/vit_b16_c2_ep5_batch4_2ctx_16shots/seed1", "")]),
        (
            "reproduce", "MaPLe", "dtd 1 w",
            [(f"base2new/test_base/{COMMON}", "w/base/seed1"), (f"base2new/test_new/{COMMON}", "w/base/seed1")],
        ),
        ("reproduce_xd", "MaPLe", "dtd 1 w", [(f"evaluation/{CROSS}/dtd/seed1", "w/seed1")]),
        ("coop_main", "CoOp", "dtd rn50 end 16 16 False", [(f"dtd/{COOP}/seed1", "")]),
        ("coop_main", "CoOp", "dtd rn50 middle 4 1 True", [("dtd/CoOp/rn50_1shots/nctx4_cscTrue_ctpmiddle/seed1", "")]),
        ("coop_eval", "CoOp", "dtd rn50", [(f"evaluation/{COOP}/dtd/seed1", f"output/imagenet/{COOP}/seed1")]),
        ("zeroshot", "ZeroshotCLIP", "dtd rn50", [("ZeroshotCLIP/rn50/dtd", "")]),
        (
            "base2new_train", "IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only", "dtd 1",
            [("base2new/train_base/dtd/shots_16/IVLP/vit_b16_c2_ep5_batch4_4ctx_language_only/seed1", "")],
        ),
    ],
)  # fmt: skip
def test_folders_are_the_originals(name, spec, words, folders):
    assert planned(name, spec, *words.split()) == [(f"output/{output}", tests) for output, tests in folders]


def test_folders_follow_the_effective_trainer_config_shots_and_seed():
    def folder(*words):
        ((output, _),) = planned("base2new_train", "MaPLe", "dtd", "1", *words)
        return output.removeprefix("output/base2new/train_base/")

    swapped = folder("--trainer", "ZeroshotCLIP", "DATASET.NUM_SHOTS", "4", "--seed", "3")
    assert swapped == "dtd/shots_4/ZeroshotCLIP/vit_b16/seed3"
    assert folder("--config-file", "my/own.yaml") == "dtd/shots_16/MaPLe/own/seed1"
    assert folder("DATASET.PATH", "x/clothing.csv").startswith("clothing/")
    assert folder("--output-dir", "elsewhere") == "elsewhere"


SCRIPTS = sorted(
    str(path.relative_to(ROOT / "scripts"))
    for path in (ROOT / "scripts").glob("*/*.sh")
    if path.parent.name != "mini"  # pretraining follows no protocol
)


@pytest.mark.parametrize("path", SCRIPTS)
def test_every_script_has_its_protocol(path, tmp_path):
    """Without words a script says which it takes; an alias has the same as what it stands for."""
    done = script(path, cwd=tmp_path)
    assert done.returncode == 2
    name = done.stderr.split()[1].removesuffix(".sh")
    words = protocols.PROTOCOLS[name].words if name in protocols.PROTOCOLS else "DATASET SEED"  # of a sweep
    assert done.stderr.startswith(f"usage: {name}.sh {words}")
    assert name in protocols.PROTOCOLS or (ROOT / "configs/sweeps" / f"{name}.yaml").is_file()
    stem = Path(path).stem.removeprefix("main_").split("_")[0]
    assert stem in name or path == "lpclip/main.sh"


def test_base_to_new_by_the_scripts(tmp_path, tiny_path, own_data):
    words = ["folder", 1, "MODEL.BACKBONE.PATH", tiny_path, "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", 2]
    words += ["TRAINER.MAPLE.PROMPT_DEPTH", 2, "DATASET.PATH", own_data, "DATALOADER.NUM_WORKERS", 0]
    common = f"{own_data.name}/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed1"
    base, new = (tmp_path / f"output/base2new/{part}/{common}" for part in ("train_base", "test_new"))

    early = script("maple/base2new_test.sh", *words, cwd=tmp_path)
    assert early.returncode == 2
    assert "nothing to test" in early.stderr
    assert script("maple/base2new_train.sh", *words, cwd=tmp_path).returncode == 0
    assert script("maple/base2new_test_maple.sh", *words, cwd=tmp_path).returncode == 0
    assert result_of(base)["subsample_classes"] == "base"
    assert (result_of(new)["subsample_classes"], result_of(new)["epoch"]) == ("new", 2)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    again = script("maple/base2new_train.sh", *words, cwd=tmp_path)
    assert (again.returncode, "Finished already" in again.stdout) == (0, True)
    for step in ("train", "test"):
        other = script(f"maple/base2new_{step}.sh", *words, "OPTIM.LR", 0.1, cwd=tmp_path)
        assert other.returncode == 2
        assert "OPTIM.LR" in other.stderr
    swapped = script("maple/base2new_train.sh", *words, "--trainer", "ZeroshotCLIP", cwd=tmp_path)
    assert swapped.returncode == 0, swapped.stderr
    assert result_of(Path(str(base).replace("MaPLe/vit_b16_c2_ep5_batch4_2ctx", "ZeroshotCLIP/vit_b16")))
    assert all(path.stat().st_mtime_ns == then for path, then in files.items())
