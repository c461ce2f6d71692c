"""Merging files and command-line arguments into a config, and comparing two configs."""

import pytest
from conftest import config

from dassl.config import clean_cfg, differences, get_cfg_default, merge_file, merge_words
from dassl.utils import InputError


def test_command_line_values_take_the_type_of_the_default():
    cfg = get_cfg_default()
    merge_words(cfg, ["OPTIM.LR", "1", "INPUT.SIZE", "(64,64)", "DATASET.NAME", "123", "SEED", "0"])
    assert (cfg.OPTIM.LR, cfg.INPUT.SIZE, cfg.DATASET.NAME, cfg.SEED) == (1.0, (64, 64), "123", 0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["OPTIM.LRX", "1"], r"OPTIM\.LRX.*Did you mean OPTIM\.LR"),
        (["OPTIM.LR", "fast"], "a value of type float"),
        (["OPTIM.LR"], "has no value"),
    ],
)
def test_errors_in_arguments_name_the_key(overrides, message):
    with pytest.raises(InputError, match=message):
        merge_words(get_cfg_default(), overrides)


def test_errors_in_files_name_the_file(tmp_path):
    cfg = get_cfg_default()
    (tmp_path / "a.yaml").write_text("OPTIM:\n  LR: 1e-5\n  NMAE: sgd\n")
    with pytest.raises(InputError, match=r"NMAE.*a\.yaml|a\.yaml.*NMAE"):
        merge_file(cfg, tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"a\.yaml"):  # the error lists the files that exist
        merge_file(cfg, tmp_path / "b.yaml")
    (tmp_path / "b.yaml").write_text("OPTIM: [")
    with pytest.raises(InputError, match=r"b\.yaml is not valid YAML"):
        merge_file(cfg, tmp_path / "b.yaml")


def test_differences_ignore_keys_that_cannot_change_a_result(tmp_path):
    cfg = config("OPTIM.LR", 0.1, "DATALOADER.NUM_WORKERS", 1)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    merge_words(cfg, ["DATALOADER.NUM_WORKERS", "2"])
    assert differences(cfg, tmp_path / "config.yaml") == []
    merge_words(cfg, ["OPTIM.LR", "0.2"])
    assert differences(cfg, tmp_path / "config.yaml") == ["OPTIM.LR (0.1 in the file, 0.2 now)"]


def test_clean_cfg_drops_the_nodes_of_other_trainers():
    cfg = config()
    cfg.TRAINER.A, cfg.TRAINER.B = type(cfg)({"X": 1}), type(cfg)({"X": 1})
    clean_cfg(cfg, "a")
    assert set(cfg.TRAINER) == {"NAME", "CONFIG", "A"}
