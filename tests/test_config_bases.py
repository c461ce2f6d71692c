"""Config files that name bases by `_BASE_`, and the shared bodies of our own files."""

import pytest
from conftest import ROOT

from dassl.config import config_files, merge_file
from dassl.utils import InputError
from trainers.common.options import default_config

TRAINER_FILES = sorted(path for path in ROOT.glob("configs/trainers/*/*.yaml") if path.parent.name != "_base")
DATASET_FILES = sorted(ROOT.glob("configs/datasets/*.yaml"))


def write(folder, **contents):
    """Write name.yaml files; returns their paths in order of the arguments."""
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(content)
    return [folder / f"{name}.yaml" for name in contents]


def merged(path):
    cfg = default_config()
    merge_file(cfg, path)
    return cfg


def test_a_file_overrides_its_bases_and_a_later_base_an_earlier_one(tmp_path):
    file, *_ = write(
        tmp_path,
        file="_BASE_: [one.yaml, two.yaml]\nOPTIM:\n  LR: 3.0\n",
        one="OPTIM:\n  LR: 1.0\n  MAX_EPOCH: 1\n  GAMMA: 0.5\n",
        two="_BASE_: three.yaml\nOPTIM:\n  LR: 2.0\n  MAX_EPOCH: 2\n",
        three="OPTIM:\n  MAX_EPOCH: 7\n  MOMENTUM: 0.7\n",
    )
    optim = merged(file).OPTIM
    assert (optim.LR, optim.MAX_EPOCH, optim.GAMMA, optim.MOMENTUM) == (3.0, 2, 0.5, 0.7)


def test_only_some_nodes_of_a_base_are_merged(tmp_path):
    file, _ = write(tmp_path, file="_BASE_: base.yaml\n", base="OPTIM:\n  LR: 1.0\nINPUT:\n  SIZE: (8, 8)\n")
    cfg = default_config()
    merge_file(cfg, file, only=("INPUT",))
    assert (cfg.INPUT.SIZE, cfg.OPTIM.LR) == ((8, 8), default_config().OPTIM.LR)


def test_config_files_lists_a_file_and_its_bases_once(tmp_path):
    paths = write(
        tmp_path,
        file="_BASE_: [two.yaml, one.yaml]\n",
        one="_BASE_: shared.yaml\n",
        two="_BASE_: shared.yaml\n",
        shared="SEED: 1\n",
    )
    assert config_files(paths[0])[0] == paths[0].resolve()
    assert sorted(config_files(paths[0])) == sorted(path.resolve() for path in paths)
    assert config_files(paths[3]) == [paths[3].resolve()]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a": "_BASE_: b.yaml\n", "b": "_BASE_: a.yaml\n"}, r"b\.yaml: _BASE_ names .*a\.yaml, .*a cycle"),
        ({"a": "_BASE_: a.yaml\n"}, "a cycle"),
        ({"a": "_BASE_: none.yaml\n"}, r"unknown config file in _BASE_ of .*a\.yaml '.*none\.yaml'"),
        ({"a": "_BASE_: 3\n"}, r"a\.yaml: _BASE_ takes the path"),
        ({"a": "_BASE_: b.yaml\n", "b": "OPTIM:\n  RL: 1\n"}, r"b\.yaml 'OPTIM\.RL'"),
        ({"a": "_BASE_: b.yaml\n", "b": "OPTIM: [\n"}, r"b\.yaml is not valid YAML"),
        ({"a": "1: 2\n"}, "config key 1 in"),
        ({f"f{n}": f"_BASE_: f{n + 1}.yaml\n" for n in range(12)}, "chain of more than 8 files"),
    ],
)
def test_errors_in_bases_name_the_file(contents, message, tmp_path):
    first, *_ = write(tmp_path, **contents)
    with pytest.raises(InputError, match=message):
        merged(first)


@pytest.mark.parametrize("path", [*TRAINER_FILES, *DATASET_FILES], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_copy_of_our_file_in_another_folder_resolves_equally(path, tmp_path):
    (tmp_path / "copy.yaml").write_text(path.read_text())
    assert merged(tmp_path / "copy.yaml") == merged(path)


def test_an_official_file_without_bases_loads(tmp_path):
    (tmp_path / "official.yaml").write_text(
        "DATALOADER:\n  TRAIN_X:\n    BATCH_SIZE: 4\n  TEST:\n    BATCH_SIZE: 100\n  NUM_WORKERS: 8\n\n"
        'INPUT:\n  SIZE: (224, 224)\n  INTERPOLATION: "bicubic"\n'
        "  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]\n  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]\n"
        '  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]\n\n'
        'OPTIM:\n  NAME: "sgd"\n  LR: 0.0035\n  MAX_EPOCH: 5\n  LR_SCHEDULER: "cosine"\n  WARMUP_EPOCH: 1\n'
        '  WARMUP_TYPE: "constant"\n  WARMUP_CONS_LR: 1e-5\n\nTRAIN:\n  PRINT_FREQ: 20\n\n'
        'MODEL:\n  BACKBONE:\n    NAME: "ViT-B/16"\n\n'
        'TRAINER:\n  MAPLE:\n    N_CTX: 2\n    CTX_INIT: "a photo of a"\n    PREC: "fp16"\n    PROMPT_DEPTH: 9\n'
    )
    ours = ROOT / "configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml"
    assert merged(tmp_path / "official.yaml") == merged(ours)


def test_shared_settings_are_in_base_files_only():
    for key, holders in (("PIXEL_MEAN", {"clip"}), ("WARMUP_CONS_LR", {"sgd", "vit_mini8_adam"})):
        assert {path.stem for path in ROOT.glob("configs/trainers/*/*.yaml") if key in path.read_text()} == holders
