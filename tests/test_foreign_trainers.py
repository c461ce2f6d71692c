"""Trainers that were written for CoOp's and MaPLe's code run with their names, config keys and loaders."""

import importlib
import sys

import pytest
import torch
import yaml
from conftest import relative, result_of

from clip import mini
from clip.clip import _MODELS
from clip.loading import load_clip
from dassl.config import merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_checkpoint, load_plugins
from dassl.utils.plugins import read_function
from experiments.classes import TRAINERS
from trainers import imagenet_templates
from trainers.common.options import default_config, run_config
from trainers.coop import CoOpCLIP, CoOpOptions, CustomCLIP, load_clip_to_cpu

load_plugins("trainers")  # before the registry is patched, so that our trainers stay registered for other tests

#: Their train.py: extend_cfg at the top level, among imports that don't exist here and a main program.
TRAIN = """
import argparse
import trainers.no_such_trainer
import datasets.no_such_dataset
from yacs.config import CfgNode as CN
TEMPLATE = "a photo of a {{}}."
open({marker!r}, "w")

def declare(node):
    node.W = 0.5

def extend_cfg(cfg):
    cfg.TRAINER.COOP = CN()
    cfg.TRAINER.COOP.N_CTX = 4
    cfg.TRAINER.COOP.CSC = False
    cfg.TRAINER.COOP.CTX_INIT = {ctx_init!r}
    cfg.TRAINER.COOP.PREC = "fp32"
    cfg.TRAINER.COOP.CLASS_TOKEN_POSITION = "middle"
    declare(cfg.TRAINER.COOP)
    cfg.TRAINER.FOREIGN = CN()
    cfg.TRAINER.FOREIGN.TEMPLATE = TEMPLATE
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"

raise SystemExit("the main program ran")
"""


@pytest.fixture(autouse=True)
def foreign(monkeypatch):
    """The trainers are registered for these tests alone."""
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", dict(TRAINER_REGISTRY._objects))
    sys.modules.pop("plugins.foreign", None)
    return importlib.import_module("plugins.foreign")


@pytest.fixture
def extension(tmp_path):
    """Path of their train.py. CTX_INIT is a bool there, and a text in ours."""
    path = tmp_path / "their_train.py"
    path.write_text(TRAIN.format(marker=str(tmp_path / "ran"), ctx_init=False))
    return path


@pytest.mark.parametrize("trainer", ["OwnLoader", "PackageLoader", "PlainDesign"])
def test_their_files_run_with_their_config_keys(trainer, run, tmp_path, extension):
    flags = ("--extend-cfg", extension, "TRAINER.COOP.W", "0.25", "TEST.SAVE_PREDICTIONS", True)
    code, _, err = run(*flags, trainer=trainer)
    assert code == 0, err
    assert not (tmp_path / "ran").exists()  # only extend_cfg and what it uses were executed
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["TRAINER"]["COOP"]["W"] == 0.25
    state = load_checkpoint(tmp_path / "out/prompt_learner/model.pth.tar-1")["state_dict"]
    assert state["shift"].abs().max() > 0
    assert "Finished already" in run(*flags, trainer=trainer)[1]
    read = run_config(tmp_path / "out")  # a run's folder can be read without their file
    assert (read.TRAINER.COOP.W, read.TRAINER.COOP.CTX_INIT) == (0.25, False)
    extension.write_text(extension.read_text().replace('"fp32"', '"fp16"'))
    code, _, err = run(*flags, trainer=trainer)
    assert (code, "TRAINER.COOP.PREC" in err) == (2, True)


def test_a_clashing_node_wins_over_our_files(run, tmp_path, extension):
    ours = "configs/trainers/CoOp/vit_b16_ep50_ctxv1.yaml"  # sets TRAINER.COOP.CTX_INIT to a text
    code, out, err = run("--extend-cfg", extension, "--config-file", ours, "OPTIM.MAX_EPOCH", 1, trainer="OwnLoader")
    assert code == 0, err
    assert "TRAINER.COOP.CTX_INIT of" in out
    own = tmp_path / "own.yaml"
    own.write_text("TRAINER: {COOP: {CTX_INIT: a photo of a}}")
    code, _, err = run("--extend-cfg", extension, "--config-file", own, trainer="OwnLoader", output=tmp_path / "own")
    assert (code, "CTX_INIT needs a value of type bool" in err) == (2, True)
    code, _, err = run("--extend-cfg", extension, trainer="CoOp", output=tmp_path / "ours")
    assert (code, "which the trainer CoOp needs" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't read"),
        ("def extend_cfg(cfg:", "can't read"),
        ("x = 1", "doesn't define a function extend_cfg"),
        ("import no_such_package\ndef extend_cfg(cfg): no_such_package.f()", "can't be executed: ModuleNotFoundError"),
        ("def extend_cfg(cfg): cfg.NO.SUCH.NODE = 1", "failed: AttributeError"),
    ],
)
def test_a_wrong_extension_is_one_line(text, message, run, tmp_path):
    path = tmp_path / "train.py"
    if text:
        path.write_text(text)
    code, _, err = run("--extend-cfg", path, trainer="OwnLoader")
    assert (code, err.count("\n"), message in err) == (2, 1, True), err


def test_only_what_a_function_uses_is_executed(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("1 / 0\nA = 2\ndef helper(): return A\nB = 1 / 0\ndef f(x): return helper() + x\n")
    assert read_function(path, "f")(3) == 5
    path.write_text("B = 1 / 0\ndef f(x): return B\n")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        read_function(path, "f")


@pytest.mark.parametrize(("trainer", "flags"), [("NamesOfCoOp", ()), ("ZeroshotOfCoOp", ("--eval-only",))])
def test_names_of_coop(trainer, flags, run, tmp_path):
    code, _, err = run(*flags, "TRAINER.COOP.N_CTX", 4, trainer=trainer)
    assert code == 0, err
    assert result_of(tmp_path / "out")["accuracy"] >= 0


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("csc", [True, False])
def test_coops_model_as_modules_equals_our_method(position, csc, tiny_clip, tiny_path):
    names = ["cat", "grand_piano", "a rather long name"]
    cfg = default_config()
    merge_words(cfg, ["TRAINER.COOP.N_CTX", 5, "TRAINER.COOP.CSC", csc, "TRAINER.COOP.CLASS_TOKEN_POSITION", position])
    theirs = CustomCLIP(cfg, names, tiny_clip)
    ours = CoOpCLIP(CoOpOptions.read(cfg.TRAINER.COOP), tiny_clip, names, "")
    ours.prompt_learner.ctx.data.copy_(theirs.prompt_learner.ctx.data)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert relative(ours(images), theirs(images)) < 1e-5
    merge_words(cfg, ["MODEL.BACKBONE.PATH", str(tiny_path)])
    assert load_clip_to_cpu(cfg).dtype == torch.float16


def test_the_names_register_no_trainer():
    assert not {"CustomCLIP", "PromptLearner", "TextEncoder"} & set(TRAINERS.names())
    assert len(imagenet_templates.IMAGENET_TEMPLATES) == 80
    assert set(imagenet_templates.IMAGENET_TEMPLATES_SELECT) < set(imagenet_templates.IMAGENET_TEMPLATES)
    with pytest.raises(AttributeError):
        imagenet_templates.NO_SUCH_TEMPLATES  # noqa: B018


def test_the_embedded_clip_is_reached_by_name(foreign, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = default_config()
    merge_words(cfg, ["MODEL.BACKBONE.NAME", mini.NAME])
    model = foreign.load_by_name(cfg).float()
    ours = load_clip(mini.NAME)
    ids = foreign.clip.tokenize(["a photo of a cat.", "x"])
    with torch.no_grad():
        assert relative(model.encode_text(ids), ours.encode_text(ids)) < 1e-2  # the weights are in half precision
    assert list((tmp_path / ".cache/clip").glob("*.pt"))
    assert not _MODELS[mini.NAME].startswith("http")
    assert foreign.clip.load(mini.NAME, device="cpu")[0].visual.input_resolution == 48


@pytest.mark.parametrize(
    ("trainer", "advice"),
    [
        ("OfficialMaPLe", "--trainer MaPLe"),
        ("DeepTowers", "--trainer IVLP"),
        ("ListOfPrompts", "This project's trainers are: "),
        ("MaskedText", "This project's trainers are: "),
        ("PromptedImages", "This project's trainers are: "),
    ],
)
def test_files_for_a_changed_clip_get_one_line(trainer, advice, run):
    code, _, err = run(trainer=trainer)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "needs a changed copy of CLIP" in line
    assert advice in line
