"""Errors of train.py: each is one clear line, and nothing that is finished is touched."""

import shutil

import pytest
from conftest import make_image


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--trainer", "MaPLee"], "Did you mean MaPLe"),
        (["--trainer", ""], "choose a trainer with --trainer"),
        (["TRAINER.NAME", "CoOp"], "not with TRAINER.NAME"),
        (["DATASET.NAME", "Foldr"], "Did you mean Folder"),
        (["OPTIM.LEARNING_RATE", "1"], "unknown config key 'OPTIM.LEARNING_RATE'"),
        (["OPTIM.LR"], "OPTIM.LR"),
        (["OPTIM.MAX_EPOCH", "many"], "a value of type int"),
        (["INPUT.TRANSFORMS", "['random_flop']"], "Did you mean random_flip"),
        (["MODEL.BACKBONE.PATH", "", "MODEL.BACKBONE.NAME", "ViT-B/17"], "ViT-B/16"),
        (["MODEL.BACKBONE.PATH", "/nowhere/x.pt"], "/nowhere/x.pt"),
        (["INPUT.SIZE", "(64,64)"], 'add INPUT.SIZE "(32,32)"'),
        (["INPUT.PIXEL_MEAN", "[0.5,0.5,0.5]"], "add INPUT.PIXEL_MEAN"),
        (["DATASET.PATH", "/nowhere"], "/nowhere, which doesn't exist"),
        (["DATASET.NAME", "Caltech101"], "DATASET.PATH is for your own data"),
        (
            ["DATASET.NAME", "Caltech101", "DATASET.PATH", ""],
            "Its subfolder caltech-101/ must contain 101_ObjectCategories/",
        ),
        (["DATASET.SUBSAMPLE_CLASSES", "old"], "all, base, new"),
        (["OPTIM.NAME", "sdg"], "Did you mean sgd"),
        (["OPTIM.LR", "-1"], "OPTIM.LR must be at least 0"),
        (["DATALOADER.TEST.BATCH_SIZE", "0"], "DATALOADER.TEST.BATCH_SIZE must be at least 1"),
        (["INPUT.SIZE", "(32,32,32)"], "INPUT.SIZE must be (height, width)"),
        (["TEST.FINAL_MODEL", "best-val"], "Did you mean best_val"),
        (["TEST.SPLIT", "trial"], "test, val"),
        (["DATALOADER.TEST.SAMPLER", "RandomClassSampler"], "There is: RandomSampler, SequentialSampler"),
        (["--resume", "/nowhere"], "nothing to resume: /nowhere (--resume) doesn't exist"),
        (["--resume", "tests"], "nothing to resume: tests (--resume) has no checkpoint"),
        (["--config-file", "configs/trainers/MaPLe/none.yaml"], "vit_b16_c2_ep5_batch4_2ctx.yaml"),
        (["--dataset-config-file", "configs/datasets/none.yaml"], "configs/datasets/dtd.yaml"),
        (["--eval-only"], "--eval-only needs --model-dir"),
        (["--eval-only", "--model-dir", "/nowhere"], "/nowhere/MultiModalPromptLearner"),
        (["DATASET.TEMPLATE", "a photo.", "--trainer", "ZeroshotCLIP"], "must have one {} for the class name"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(run, argv, message):
    code, _, err = run(*argv)
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
