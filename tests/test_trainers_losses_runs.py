"""Methods with further losses and teachers: original configs and checkpoints, values by data set, runs that resume."""

import shutil

import pytest
import torch
from conftest import ROOT, depth_words, result_of
from tiny_methods import TRAINERS, make

from dassl.utils import InputError, load_checkpoint
from experiments.config import resolve
from experiments.run import runs
from trainers.base import load_method
from trainers.common.checkpoint import learned_tensors


def config_of(*argv):
    (run, *_) = runs([str(word) for word in argv])
    return resolve(run)


# ---- original YAML files and KEY VALUE pairs ----

YAML = {
    "KgCoOp": "TRAINER: {COOP: {N_CTX: 8, CSC: False, CTX_INIT: False, W: 4.0, ALPHA: 1.0, CLASS_TOKEN_POSITION: end}}",
    "ProGrad": "{TRAINER: {COOP: {CTX_INIT: True}}, LOSS: {NAME: prograd, LAMBDA: 0.7, T: 2.0, GM: False, ALPHA: 0.1}}",
    "TCP": "TRAINER: {COOP: {N_CTX: 4, CSC: False, W: 1.0}, COCOOP: {PREC: fp16}}",
    "PromptSRC": "TRAINER: {PROMPTSRC: {N_CTX_TEXT: 3, TEXT_LOSS_WEIGHT: 20}}",
    "CoPrompt": "TRAINER: {W: 2.0, DISTILL: mse, CoPrompt: {N_CTX: 3, PROMPT_DEPTH: 2}}",
}
OPTIONS = {
    "KgCoOp": {"N_CTX": 8, "CTX_INIT": False, "W": 4.0},
    "ProGrad": {"CTX_INIT": True, "LAMBDA": 0.7, "T": 2.0},
    "TCP": {"N_CTX": 4, "W_KG": 8.0},
    "PromptSRC": {"N_CTX_TEXT": 3, "TEXT_LOSS_WEIGHT": 20.0},
    "CoPrompt": {"N_CTX": 3, "PROMPT_DEPTH": 2, "W": 2.0, "DISTILL": "mse"},
}


@pytest.mark.parametrize("trainer", YAML)
def test_an_original_yaml_file_is_accepted(trainer, tmp_path):
    file = tmp_path / "official.yaml"
    file.write_text(YAML[trainer])
    cfg = config_of("few_shot", trainer, "folder", 1, "--config-file", file)
    options = vars(TRAINERS[trainer].read_options(cfg))
    assert OPTIONS[trainer].items() <= options.items()


def test_original_keys_work_on_the_command_line_and_override_values():
    assert config_of("base2new_train", "KgCoOp", "dtd", 1, "TRAINER.COOP.W", 2).TRAINER.KGCOOP.W == 2.0
    assert config_of("base2new_train", "CoPrompt", "dtd", 1, "TRAINER.W", 3).TRAINER.CoPrompt.W == 3.0
    cfg = config_of("prograd", "ProGrad", "dtd", "rn50_ep50", "end", 8, 1, "True", "LOSS.LAMBDA", 0.5)
    assert (cfg.OPTIM.MAX_EPOCH, cfg.TRAINER.PROGRAD.N_CTX, cfg.TRAINER.PROGRAD.LAMBDA) == (50, 8, 0.5)
    assert cfg.OUTPUT_DIR.endswith("dtd/ProGrad/rn50_ep50_1shots/nctx8_cscTrue_ctpend/seed1")


@pytest.mark.parametrize(
    ("trainer", "key", "value", "message"),
    [
        ("TCP", "TRAINER.COOP.CSC", "True", "TCP supports only False"),
        ("ProGrad", "LOSS.NAME", "kl", "ProGrad supports only prograd"),
        ("ProGrad", "TRAINER.COOP.CLASS_TOKEN_POSITION", "middle", "ProGrad supports only end"),
        ("KgCoOp", "TRAINER.COOP.NO_SUCH", "1", "unknown config key"),
    ],
)
def test_an_original_key_that_has_no_counterpart_is_refused(trainer, key, value, message):
    with pytest.raises(InputError, match=message):
        config_of("few_shot", trainer, "folder", 1, key, value)


# ---- values by data set, protocol and shots ----


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("base2new_train KgCoOp dtd 1", {"DATASET.TEMPLATE": "a photo of a {}, a type of texture."}),
        ("base2new_train KgCoOp eurosat 1", {"DATASET.TEMPLATE": "", "DATALOADER.TRAIN_X.BATCH_SIZE": 128}),
        ("few_shot KgCoOp eurosat 1", {"DATALOADER.TRAIN_X.BATCH_SIZE": 32}),
        ("base2new_train ProGrad oxford_pets 1", {"DATASET.TEMPLATE": "a type of pet, a photo of a {}."}),
        ("few_shot ProGrad dtd 1", {"OPTIM.MAX_EPOCH": 200, "TRAINER.PROGRAD.LAMBDA": 0.8}),
        ("few_shot ProGrad dtd 1 DATASET.NUM_SHOTS 1", {"OPTIM.MAX_EPOCH": 50, "TRAINER.PROGRAD.LAMBDA": 1.0}),
        ("xd_train ProGrad imagenet 1", {"OPTIM.MAX_EPOCH": 50}),
        ("prograd ProGrad dtd rn50 end 16 16 False", {"OPTIM.MAX_EPOCH": 200, "TRAINER.PROGRAD.LAMBDA": 0.8}),
        ("prograd ProGrad imagenet rn50_ep100 end 16 4 False", {"OPTIM.MAX_EPOCH": 100}),
        ("few_shot PromptSRC eurosat 1", {"TRAINER.PROMPTSRC.GPA_MEAN": 45.0, "OPTIM.MAX_EPOCH": 50}),
        ("few_shot PromptSRC ucf101 1", {"TRAINER.PROMPTSRC.GPA_MEAN": 30.0, "TRAINER.PROMPTSRC.GPA_STD": 30.0}),
        ("xd_test PromptSRC ucf101 1", {"TRAINER.PROMPTSRC.GPA_MEAN": 6.0, "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT": 3}),
        ("base2new_train TCP sun397 1", {"OPTIM.MAX_EPOCH": 25}),
        (
            "base2new_train TCP food101 1",
            {"DATASET.TEMPLATE": "a photo of a {}, a type of food.", "OPTIM.MAX_EPOCH": 50},
        ),
        ("xd_test TCP food101 1", {"OPTIM.MAX_EPOCH": 25}),
        ("base2new_train CoPrompt food101 1", {"OPTIM.MAX_EPOCH": 5, "TRAINER.CoPrompt.W": 0.5}),
        ("base2new_train CoPrompt eurosat 1", {"TRAINER.CoPrompt.N_CTX": 2, "TRAINER.CoPrompt.PROMPT_DEPTH": 12}),
        ("xd_test CoPrompt eurosat 1", {"TRAINER.CoPrompt.N_CTX": 4, "TRAINER.CoPrompt.W": 8.0, "OPTIM.MAX_EPOCH": 8}),
        ("base2new_train CoPrompt folder 1", {"TRAINER.CoPrompt.W": 1.0, "TRAINER.CoPrompt.SENTENCES": ""}),
    ],
)
def test_values_are_those_of_the_papers(line, expected):
    cfg = config_of(*line.split())
    for key, value in expected.items():
        node, _, name = key.rpartition(".")
        found = cfg
        for part in node.split("."):
            found = found[part]
        assert found[name] == value, key


def test_the_prompts_of_tcp_follow_the_tested_data_set():
    cfg = config_of("xd_test", "TCP", "stanford_cars", 1)
    assert TRAINERS["TCP"].read_options(cfg).PROMPT_SUFFIX == "{}, a type of car"
    cfg = config_of("few_shot", "TCP", "folder", 1)
    assert TRAINERS["TCP"].read_options(cfg).PROMPT_SUFFIX == ""


# ---- checkpoints ----


@pytest.mark.parametrize(
    ("trainer", "keys"),
    [
        (
            "KgCoOp",
            ("bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias", "token_prefix", "token_suffix"),
        ),
        ("PromptSRC", ("prompt_learner.ZS_image_encoder.conv1.weight", "prompt_learner.token_prefix")),
        ("CoPrompt", ("model_distill.visual.conv1.weight", "prompt_learner.token_suffix")),
    ],
)
def test_what_official_checkpoints_carry_along_is_skipped(trainer, keys, tiny_clip, tmp_path):
    method = make(trainer, tiny_clip)
    part = dict(method.named_modules())[next(iter(TRAINERS[trainer].checkpoints.values()))]
    state = part.state_dict() | {key: torch.zeros(3, 512) for key in keys}
    assert set(learned_tensors({"state_dict": state}, part, method, tmp_path)) == set(part.state_dict())


#: {trainer: (checkpoint folder, keys that the official code expects in it)}, with prompts in two layers.
OFFICIAL = {
    "KgCoOp": ("prompt_learner", "ctx"),
    "ProGrad": ("prompt_learner", "ctx"),
    "TCP": (
        "prompt_learner",
        "ctx meta_net.linear1.weight meta_net.linear1.bias meta_net.linear2.weight meta_net.linear2.bias",
    ),
    "PromptSRC": (
        "VLPromptLearner",
        "prompt_learner.ctx image_encoder.VPT image_encoder.transformer.resblocks.1.VPT_shallow "
        "text_encoder.transformer.resblocks.1.VPT_shallow",
    ),
    "CoPrompt": (
        "MultiModalPromptLearner",
        "prompt_learner.ctx prompt_learner.proj.weight prompt_learner.proj.bias "
        "prompt_learner.compound_prompts_text.0 prompt_learner.compound_prompt_projections.0.weight "
        "prompt_learner.compound_prompt_projections.0.bias adapter_image.fc.0.weight adapter_image.fc.2.weight "
        "adapter_text.fc.0.weight adapter_text.fc.2.weight",
    ),
}


@pytest.mark.parametrize("trainer", OFFICIAL)
def test_our_checkpoints_load_into_the_official_code(trainer, tiny_clip):
    """The official code reads the folder's file, and copies every tensor of it into its model by name."""
    folder, keys = OFFICIAL[trainer]
    (ours,) = TRAINERS[trainer].checkpoints
    assert ours == folder
    method = make(trainer, tiny_clip, *depth_words(trainer, 2))
    state = dict(method.named_modules())[TRAINERS[trainer].checkpoints[folder]].state_dict()
    assert sorted(state) == sorted(keys.split())


# ---- runs ----


@pytest.mark.parametrize("trainer", OFFICIAL)
def test_a_resumed_run_ends_with_the_same_bits_and_is_rebuilt(trainer, run, tmp_path):
    """The average of the prompts, the random sentences and the second views are those of the run without a stop."""
    words = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code, _, err = run(*words, trainer=trainer, output=whole)
    assert code == 0, err
    shutil.copytree(whole, cut)
    (cut / "result.json").unlink()
    (name,) = TRAINERS[trainer].checkpoints
    (cut / name / "model.pth.tar-3").unlink()
    (cut / name / "checkpoint").write_text("model.pth.tar-1\n")
    code, out, err = run(*words, trainer=trainer, output=cut)
    assert code == 0, err
    assert "will resume training" in out
    states = [load_checkpoint(folder / name / "model.pth.tar-3") for folder in (whole, cut)]
    assert all(torch.equal(states[1]["state_dict"][key], tensor) for key, tensor in states[0]["state_dict"].items())
    if trainer == "PromptSRC":
        average = states[0]["method"]
        assert set(average) == {"log_total", *states[0]["state_dict"]}
        assert all(torch.equal(average[key], tensor) for key, tensor in states[0]["state_dict"].items())
    shutil.rmtree(tmp_path / "cut")
    method = load_method(whole, ["cat", "dog"])
    assert method(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert result_of(whole)["options"]["PREC"] == "fp16"


def test_sentences_are_needed_for_training_alone(run, tmp_path):
    missing = ("TRAINER.CoPrompt.SENTENCES", "gpt_file/none.json")
    code, _, err = run(*missing, trainer="CoPrompt")
    assert (code, "gpt_file/none.json, which doesn't exist" in err) == (2, True)
    code, _, err = run("DATALOADER.K_TRANSFORMS", 1, trainer="CoPrompt")
    assert (code, "Set DATALOADER.K_TRANSFORMS 2" in err) == (2, True)
    assert run(trainer="CoPrompt")[0] == 0
    words = ("--eval-only", "--model-dir", tmp_path / "out", *missing)
    code, _, err = run(*words, trainer="CoPrompt", output=tmp_path / "test")
    assert code == 0, err


def test_each_file_is_short():
    """A method is one file of less than 200 lines."""
    for name in ("kgcoop", "prograd", "promptsrc", "tcp", "coprompt"):
        assert len((ROOT / "trainers" / f"{name}.py").read_text().splitlines()) < 200
