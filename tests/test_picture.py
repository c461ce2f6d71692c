"""The picture of predictions (tools/picture.py)."""

import numpy as np
from conftest import emoji_config_file
from PIL import Image

import train
from dassl.utils import load_plugins
from tools import picture

load_plugins("datasets")
load_plugins("trainers")


def test_the_picture_is_drawn_from_saved_predictions(tmp_path):
    for part in ("base", "new"):
        words = f"--trainer ZeroshotCLIP --dataset-config-file {emoji_config_file('EmojiFood')} --seed 1"
        opts = f"--output-dir {tmp_path}/{part} DATASET.SUBSAMPLE_CLASSES {part} TEST.SAVE_PREDICTIONS True"
        assert train.main([*words.split(), *opts.split(), "DATALOADER.NUM_WORKERS", "0"]) == 0
    assert picture.main([str(tmp_path), str(tmp_path / "picture.png")]) == 0
    with Image.open(tmp_path / "picture.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_an_error_names_the_option_that_saves_predictions(tmp_path, capsys):
    assert picture.main([str(tmp_path / "nothing"), "x.png"]) == 2
    assert "SAVE_PREDICTIONS" in capsys.readouterr().err
