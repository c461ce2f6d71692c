"""From a command line to a config: order of arguments, precedence, protocol, and a trainer's own values."""

import pytest

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from experiments.checks import check_names
from experiments.config import known_value, resolve
from experiments.run import runs


def build(*argv):
    return train.build_config(train.parse_arguments([*map(str, argv)]))


def test_arguments_in_any_order_and_the_last_wins():
    argv = "OPTIM.LR 0.1 --seed 1 DATASET.NUM_SHOTS 4 --trainer MaPLe --seed 2 OPTIM.LR 0.2 SEED -1"
    args = train.parse_arguments(argv.split())
    assert (args.seed, args.trainer) == (2, "MaPLe")
    assert args.opts == ["OPTIM.LR", "0.1", "DATASET.NUM_SHOTS", "4", "OPTIM.LR", "0.2", "SEED", "-1"]


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
    file = tmp_path / "data.yaml"
    file.write_text('DATASET:\n  NAME: "Folder"\nMODEL:\n  BACKBONE:\n    NAME: "Mini"\nINPUT:\n  SIZE: (48, 48)\n')
    cfg = build("--trainer", "MaPLe", "--dataset-config-file", file)
    assert (cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION) == ("Mini", (48, 48), "bicubic")
    assert build("--trainer", "MaPLe", "--dataset-config-file", file, "--backbone", "X").MODEL.BACKBONE.NAME == "X"


def test_config_files_are_found_from_any_folder(tmp_path, monkeypatch):
    """A path is relative to the current folder, or else to the project's."""
    monkeypatch.chdir(tmp_path)
    argv = ("--trainer", "MaPLe", "--dataset-config-file", "configs/datasets/dtd.yaml")
    assert build(*argv).DATASET.NAME == "DescribableTextures"
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/dtd.yaml").write_text('DATASET:\n  NAME: "Folder"\n')
    assert build(*argv).DATASET.NAME == "Folder"


# ---- protocol ----


@pytest.mark.parametrize(
    ("argv", "protocol"),
    [
        ("base2new_train MaPLe dtd 1", "base2new"),
        ("base2new_test MaPLe dtd 1", "base2new"),
        ("few_shot MaPLe dtd 1", "few_shot"),
        ("xd_train MaPLe imagenet 1", "cross_dataset"),
        ("xd_test MaPLe dtd 1", "cross_dataset"),
        ("reproduce MaPLe dtd 1 weights", "base2new"),
        ("zeroshot ZeroshotCLIP dtd rn50", ""),
        ("few_shot MaPLe dtd 1 PROTOCOL mine", "mine"),
    ],
)
def test_experiments_set_the_protocol(argv, protocol):
    assert protocol == resolve(next(runs(argv.split()))).PROTOCOL


@pytest.mark.parametrize(("classes", "protocol"), [("base", "base2new"), ("new", "base2new"), ("all", "")])
def test_train_derives_the_protocol_from_the_classes(classes, protocol):
    assert protocol == build("--trainer", "MaPLe", "DATASET.SUBSAMPLE_CLASSES", classes).PROTOCOL


# ---- a trainer's values by data set and protocol ----


@pytest.fixture
def tuned(monkeypatch):
    """A trainer "Tuned" whose values depend on data set, protocol and shots."""

    class Tuned(TRAINER_REGISTRY.get("MaPLe")):
        node = "MAPLE"

        @classmethod
        def values(cls, dataset, protocol, shots):
            if (dataset, protocol) == ("Folder", "base2new"):
                return {"OPTIM.LR": 0.25 if shots == 4 else 0.5, "TRAINER.MAPLE.N_CTX": 3}
            return {}

    monkeypatch.setitem(TRAINER_REGISTRY._objects, "Tuned", Tuned)
    return Tuned


def test_values_override_files_and_the_command_line_overrides_values(tuned):
    file = ("--config-file", "configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml")
    argv = ("--trainer", "Tuned", "--dataset-config-file", "configs/datasets/folder.yaml", *file)
    base = ("DATASET.SUBSAMPLE_CLASSES", "base")
    assert build(*argv).OPTIM.LR == 0.0035
    cfg = build(*argv, *base)
    assert (cfg.OPTIM.LR, cfg.TRAINER.MAPLE.N_CTX) == (0.5, 3)
    cfg = build(*argv, *base, "OPTIM.LR", 0.1)
    assert (cfg.OPTIM.LR, cfg.TRAINER.MAPLE.N_CTX) == (0.1, 3)
    assert build(*argv, *base, "DATASET.NUM_SHOTS", 4).OPTIM.LR == 0.25
    assert build(*argv, *base, "DATASET.NAME", "EuroSAT").OPTIM.LR == 0.0035


def test_values_are_logged_in_one_line(tuned, run):
    file = ("--config-file", "configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml")
    options = ("DATASET.SUBSAMPLE_CLASSES", "base", "TRAINER.MAPLE.PROMPT_DEPTH", 2, "OPTIM.LR", 0.1, "--no-train")
    code, out, err = run(*file, *options, trainer="Tuned")
    assert code == 0, err
    assert "Values of Tuned for Folder (base2new): OPTIM.LR 0.1 TRAINER.MAPLE.N_CTX 3\n" in out


# ---- what is known without the plugins ----


@pytest.mark.parametrize(
    "argv",
    [
        "base2new_train MaPLe emoji_food 1",
        "xd_train CoOp emoji 2 DATASET.NUM_SHOTS 4",
        "few_shot IVLP dtd 1 --backbone X MODEL.BACKBONE.PATH y",
        "mtcoop_hard MTCoOpHard emoji5 rn50 16 4 False True",
    ],
)
def test_values_known_without_plugins_are_the_configs(argv):
    run = next(runs(argv.split()))
    cfg = resolve(run)
    for key in ("DATASET.NAME", "DATASET.PATH", "DATASET.ROOT", "DATASET.TASKS", "MODEL.BACKBONE.PATH", "OUTPUT_DIR"):
        node, name = cfg, key
        *nodes, name = key.split(".")
        for part in nodes:
            node = node[part]
        expected = run.output_dir if key == "OUTPUT_DIR" else known_value(run, key)
        assert node[name] == expected


def test_an_odd_number_of_options_is_an_input_error():
    with pytest.raises(InputError, match="has no value"):
        build("--trainer", "MaPLe", "OPTIM.LR")


def test_names_are_checked_without_building_a_config():
    with pytest.raises(InputError, match="Did you mean MaPLe"):
        check_names(next(runs(["base2new_train", "Maple", "dtd", "1"])))
