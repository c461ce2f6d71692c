"""The protocols' scripts: folders, arguments, finished and unfinished runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, result_of

from dassl.utils import InputError
from experiments.protocols import PROTOCOLS
from experiments.run import runs


def script(name, *argv, cwd, **env):
    """Run a script in a folder, with the Python of this process."""
    command = ["bash", str(ROOT / "scripts" / name), *map(str, argv)]
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"} | env
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def folders_of(name, spec, *argv):
    """(output folder, folder of the tested prompts) of the runs that a command line asks for."""
    return [(run.output_dir, run.flags.get("TEST.MODEL_DIR", "")) for run in runs([name, spec, *argv])]


CROSS = "MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets_16shots"
MINI = "MaPLe/vit_mini8_cross_datasets_16shots"
COMMON = "dtd/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed1"
COOP = "CoOp/rn50_16shots/nctx16_cscFalse_ctpend"


@pytest.mark.parametrize(
    ("name", "spec", "argv", "folders"),
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
def test_folders_are_the_originals(name, spec, argv, folders):
    found = folders_of(name, spec, *argv.split())[: len(folders)]  # of several seeds, the first
    assert found == [(f"output/{output}", tests) for output, tests in folders]


def test_several_seeds_unless_the_user_chooses_one():
    argv = ["coop_main", "CoOp", "dtd", "rn50", "end", "16", "16", "False"]
    assert [run.seed for run in runs(argv)] == [1, 2, 3]
    assert [run.seed for run in runs([*argv, "--seed", "5"])] == [5]
    assert [run.output_dir.rpartition("/")[2] for run in runs([*argv, "SEED", "7"])] == ["seed7"]


def test_classes_of_a_protocol_are_fixed():
    with pytest.raises(InputError, match="SUBSAMPLE_CLASSES is base in this protocol"):
        next(runs(["base2new_train", "MaPLe", "dtd", "1", "DATASET.SUBSAMPLE_CLASSES", "all"]))


def test_each_step_of_a_protocol_has_its_own_folder():
    argv = ["reproduce", "MaPLe", "dtd", "1", "weights", "--output-dir", "out"]
    assert [run.output_dir for run in runs(argv)] == ["out/test_base", "out/test_new"]


def test_folders_follow_the_effective_trainer_config_shots_and_seed():
    def folder(*argv):
        ((output, _),) = folders_of("base2new_train", "MaPLe", "dtd", "1", *argv)
        return output.removeprefix("output/base2new/train_base/")

    swapped = folder("--trainer", "ZeroshotCLIP", "DATASET.NUM_SHOTS", "4", "--seed", "3")
    assert swapped == "dtd/shots_4/ZeroshotCLIP/vit_b16/seed3"
    assert folder("--config-file", "my/own.yaml") == "dtd/shots_16/MaPLe/own/seed1"
    assert folder("DATASET.PATH", "x/clothing.csv").startswith("clothing/")
    assert folder("DATASET.PATH", "x/clothing.csv", "DATASET.LABEL", "mine").startswith("mine/")
    assert folder("--output-dir", "elsewhere") == "elsewhere"


SWEEPS = {"kgcoop/run.sh": 11, "tcp/eval.sh": 9}  # {script of a whole sweep: its number of data sets}
SCRIPTS = sorted(
    str(path.relative_to(ROOT / "scripts"))
    for path in (ROOT / "scripts").glob("*/*.sh")
    if path.parent.name != "mini"  # pretraining follows no protocol
)


@pytest.mark.parametrize("path", sorted(set(SCRIPTS) - set(SWEEPS)))
def test_every_script_has_its_protocol(path, tmp_path):
    """A script without arguments prints which it takes. An alias takes the same as the script that it calls."""
    done = script(path, cwd=tmp_path)
    assert done.returncode == 2
    name = done.stderr.split()[1].removesuffix(".sh")
    arguments = PROTOCOLS[name].arguments if name in PROTOCOLS else "DATASET SEED"  # of a sweep
    assert done.stderr.startswith(f"usage: {name}.sh {arguments}")
    assert name in PROTOCOLS or (ROOT / "configs/sweeps" / f"{name}.yaml").is_file()
    stem = Path(path).stem.removeprefix("main_").split("_")[0]
    assert stem in name or Path(path).name in ("main.sh", "cross_datasets_train.sh", "cross_datasets_test.sh")


@pytest.mark.parametrize(("path", "datasets"), SWEEPS.items())
def test_a_script_runs_a_whole_sweep(path, datasets, tmp_path):
    done = script(path, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("base2new_train") == done.stdout.count("base2new_test") == 3 * datasets


@pytest.mark.slow
def test_base_to_new_by_the_scripts(tmp_path, tiny_path, own_data):
    argv = ["folder", 1, "MODEL.BACKBONE.PATH", tiny_path, "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", 2]
    argv += ["TRAINER.MAPLE.PROMPT_DEPTH", 2, "DATASET.PATH", own_data, "DATALOADER.NUM_WORKERS", 0]
    common = f"{own_data.name}/shots_16/MaPLe/vit_b16_c2_ep5_batch4_2ctx/seed1"
    base, new = (tmp_path / f"output/base2new/{part}/{common}" for part in ("train_base", "test_new"))

    early = script("maple/base2new_test.sh", *argv, cwd=tmp_path)
    assert early.returncode == 2
    assert "nothing to test" in early.stderr
    assert script("maple/base2new_train.sh", *argv, cwd=tmp_path).returncode == 0
    assert script("maple/base2new_test_maple.sh", *argv, cwd=tmp_path).returncode == 0
    assert result_of(base)["subsample_classes"] == "base"
    assert (result_of(new)["subsample_classes"], result_of(new)["epoch"]) == ("new", 2)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    again = script("maple/base2new_train.sh", *argv, cwd=tmp_path)
    assert (again.returncode, "Finished already" in again.stdout) == (0, True)
    for step in ("train", "test"):
        other = script(f"maple/base2new_{step}.sh", *argv, "OPTIM.LR", 0.1, cwd=tmp_path)
        assert other.returncode == 2
        assert "OPTIM.LR" in other.stderr
    swapped = script("maple/base2new_train.sh", *argv, "--trainer", "ZeroshotCLIP", cwd=tmp_path)
    assert swapped.returncode == 0, swapped.stderr
    assert result_of(Path(str(base).replace("MaPLe/vit_b16_c2_ep5_batch4_2ctx", "ZeroshotCLIP/vit_b16")))
    assert all(path.stat().st_mtime_ns == then for path, then in files.items())
