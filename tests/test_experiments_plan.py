"""Plans of sweeps: every file plans, runs have names and folders, and wrong input is refused before anything runs."""

import re
import shutil

import pytest
from conftest import result_of

from dassl.utils import InputError
from experiments import plan as plans
from experiments import sweep
from experiments.sweep_file import FILES, Sweep


@pytest.fixture(autouse=True)
def _restore_output(monkeypatch):
    """sweep.main sets OUTPUT in its process. Restore it for the next test."""
    monkeypatch.setenv("OUTPUT", "output")


@pytest.mark.parametrize("name", sorted(path.stem for path in FILES.glob("*.yaml")))
def test_every_file_plans(name, tmp_path, monkeypatch):
    """Every run has its own folder below OUTPUT, and its result's fields are known."""
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    declared = Sweep.read(name)
    narrowed = declared.narrowed({"datasets": ",".join(declared.datasets[:2]), "seeds": "1"}, [])
    runs = [run for job in plans.plan([narrowed]) for run in job]
    assert {run.state for run in runs} == {"to do"}
    assert len({run.folder for run in runs}) == len(runs)
    assert all(run.folder.startswith(str(tmp_path)) for run in runs)
    trainers = {spec.split()[0].split(":")[0] for spec in declared.trainers}
    assert {run.known["trainer"] for run in runs} == trainers
    for key in ("depths", "lengths", "shots"):
        argv = [word for run in runs for word in run.argv]
        assert all(str(value) in argv for value in getattr(declared, key))


def test_several_files_are_one_sweep(tmp_path, capsys):
    """One call lists the runs of both files. A run that both files declare is listed once."""
    words = ["--trainers", "CLIP_Adapter", "--datasets", "emoji_food", "--seeds", "1", "--output", str(tmp_path)]
    assert sweep.main(["emoji_adapters,emoji_few_shot", "--dry-run", *words]) == 0
    assert "7 runs in 6 jobs: 7 to do" in capsys.readouterr().out  # training and test, and five numbers of shots
    args = sweep.parse(["emoji_adapters,emoji_few_shot", *words])[0]
    assert sweep.folder_name(args).startswith("emoji_adapters+emoji_few_shot-trainers_CLIP_Adapter")
    shared = ["--trainers", "CoOp", "--seeds", "1", "--output", str(tmp_path)]
    assert sweep.main(["cross_dataset", "--dry-run", *shared]) == 0
    assert sweep.main(["domain_generalization", "--dry-run", *shared]) == 0
    assert sweep.main(["cross_dataset,domain_generalization", "--dry-run", *shared]) == 0
    one, other, both = re.findall(r"(\d+) runs in (\d+) jobs", capsys.readouterr().out)
    assert int(both[0]) == int(one[0]) + int(other[0]) - 1  # the training on ImageNet
    assert both[1] == one[1] == other[1] == "1"
    different = tmp_path / "a,b.yaml"  # a path may contain a comma
    different.write_text("protocol: base2new\ntrainers: [MaPLe, MaPLe OPTIM.LR 0.1]\ndatasets: [emoji_food]")
    assert sweep.main([str(different), "--dry-run", "--output", str(tmp_path)]) == 2
    assert "Leave one of them out, or give one a --variant" in capsys.readouterr().err


def test_backbones_and_variants_have_names(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUT", "out")
    spec = "MaPLe --variant mine OPTIM.LR 0.1"
    declared = Sweep("few_shot", [spec], ["dtd"], [1], [16], [3], [4], ["ViT-B/32", "X INPUT.SIZE (48,48)"])
    runs = [run for job in plans.plan([declared]) for run in job]
    config = "vit_b16_c2_ep5_batch4_2ctx_mine_depth3_length4"
    assert [run.known["config"] for run in runs] == [f"{config}_vit-b-32", f"{config}_x"]
    assert runs[1].folder == f"out/dtd/MaPLe/{config}_x_16shots/seed1"
    assert runs[1].argv[-2:] == ["--variant", "mine_depth3_length4_x"]
    assert {"INPUT.SIZE", "(48,48)", "OPTIM.LR", "0.1", "TRAINER.MAPLE.N_CTX", "4"} <= set(runs[1].argv)
    only = Sweep("base2new", ["IVLP:vit_b16_c2_ep5_batch4_4ctx_language_only"], ["dtd"], [1], depths=[3])
    argv = plans.plan([only])[0][0].argv
    assert "TRAINER.IVLP.PROMPT_DEPTH_TEXT" in argv
    assert "TRAINER.IVLP.PROMPT_DEPTH_VISION" not in argv  # this config sets it to 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("protocol: base2new", "must have the keys protocol, trainers and datasets"),
        ("protocol: x\ntrainers: [MaPLe]\ndatasets: [dtd]", "unknown protocol"),
        ("protocol: base2new\ntrainers: MaPLe\ndatasets: [dtd]", "trainers must be a list of str"),
        ("protocol: base2new\ntrainers: [MaPLe]\ndatasets: [dtd]\nseeds: [one]", "seeds must be a list of int"),
        ("protocol: base2new\ntrainers: [MaPLe]\ndatasets: [dtd]\nsead: [1]", "Did you mean seeds"),
        ("protocol: base2new\ntrainers: [MaPle]\ndatasets: [dtd]", "Did you mean MaPLe"),
        ("protocol: base2new\ntrainers: [MaPLe]\ndatasets: [dt]", "unknown config file"),
        ("protocol: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_runs(content, message, tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text(content)
    assert sweep.main([str(file), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_arguments_are_refused(capsys):
    assert sweep.main(["nope"]) == 2
    assert "There is: base2new" in capsys.readouterr().err
    assert sweep.main(["emoji", "--seeds", "one"]) == 2
    assert "--seeds takes numbers" in capsys.readouterr().err
    if not shutil.which("sbatch"):
        assert sweep.main(["emoji", "--on", "slurm"]) == 2
        assert "no sbatch here" in capsys.readouterr().err


def test_an_unknown_trainer_is_an_input_error():
    with pytest.raises(InputError, match="Did you mean MaPLe"):
        plans.PlannedRun.of(["base2new_train", "Maple", "dtd", "1"])


def test_a_plan_knows_what_a_result_says(run, tmp_path, own_data):
    options = ("DATASET.SUBSAMPLE_CLASSES", "base", "TRAINER.CONFIG", "vit_b16")
    assert run(*options, trainer="ZeroshotCLIP")[0] == 0
    argv = ["base2new_train", "ZeroshotCLIP", "folder", "1", "DATASET.PATH", str(own_data), "DATASET.NUM_SHOTS", "2"]
    known = plans.PlannedRun.of(argv).known
    result = result_of(tmp_path / "out")
    del known["backbone"]  # the finished run reads other weights
    assert known == {key: result[key] for key in known}
