"""On the pretend device: caches of features, the engine's trainers, optimisers, tools, and several tasks."""

import numpy as np
import pytest
import torch
from conftest import ROOT, config, relative, result_of
from tiny_engine import LinearTrainer, LinearTrainerXU, register_two_classes

import clip
from clip.vision import VisionTransformer
from dassl.engine import SimpleTrainer
from dassl.optim import build_optimizer
from dassl.utils import cache_folder, load_checkpoint, save_checkpoint
from tools import linear_probe_features
from trainers.base import start_context
from trainers.maple import MaPLeCLIP


@pytest.mark.parametrize("trainer", [LinearTrainer, LinearTrainerXU])
def test_the_engines_trainers_learn_the_same_on_the_device(trainer, pretend, tmp_path, monkeypatch):
    make_config = register_two_classes(tmp_path, monkeypatch)
    weights = []
    for use_cuda in (True, False):
        made = trainer(make_config("USE_CUDA", use_cuda, "OUTPUT_DIR", str(tmp_path / str(use_cuda))))
        assert made.device.type == ("pretend" if use_cuda else "cpu")
        made.train()
        weights.append(load_checkpoint(tmp_path / str(use_cuda) / "linear/model.pth.tar-3")["state_dict"]["1.weight"])
    assert relative(*weights) < 1e-5


def test_the_default_net_is_tested_on_the_device(pretend, tmp_path, monkeypatch):
    make_config = register_two_classes(tmp_path, monkeypatch)
    trainer = SimpleTrainer(make_config("MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.PRETRAINED", False))
    assert 0 <= trainer.test() <= 100


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw", "radam", "rmsprop", "sgd"])
def test_optimisers_resume_on_the_device(name, pretend, tmp_path):
    """The state is on the CPU in the checkpoint, and on the device after the resume."""
    cfg = config("OPTIM.NAME", name).OPTIM

    def step(layer, optimizer):
        optimizer.zero_grad()
        (layer.weight**2).sum().backward()
        optimizer.step()

    layer = torch.nn.Linear(3, 2).to(pretend)
    optimizer = build_optimizer(layer, cfg)
    step(layer, optimizer)
    saved = save_checkpoint(
        {"state_dict": layer.state_dict(), "epoch": 1, "optimizer": optimizer.state_dict()}, tmp_path
    )
    step(layer, optimizer)
    checkpoint = load_checkpoint(saved)
    resumed = torch.nn.Linear(3, 2).to(pretend)
    resumed.load_state_dict(checkpoint["state_dict"])
    optimizer = build_optimizer(resumed, cfg)
    optimizer.load_state_dict(checkpoint["optimizer"])
    step(resumed, optimizer)
    assert torch.equal(resumed.weight, layer.weight)


def test_each_device_has_its_own_cached_features(run, pretend, tmp_path, monkeypatch):
    """Features made on the device are read again on the device, but not on the CPU, which rounds differently."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoded, forward = [], VisionTransformer.forward
    monkeypatch.setattr(
        VisionTransformer, "forward", lambda tower, x: encoded.append(x.device.type) or forward(tower, x)
    )
    logits = []
    for number, use_cuda in enumerate((True, True, False)):
        words = ("USE_CUDA", use_cuda, "TRAINER.ZEROSHOTCLIP.PREC", "fp32", "TEST.SAVE_PREDICTIONS", True)
        output = tmp_path / str(number)
        code, _, err = run(*words, trainer="ZeroshotCLIP", output=output)
        assert code == 0, err
        logits.append(torch.tensor(np.load(output / "predictions.npz")["logits"]))
    assert encoded == ["pretend", "cpu"]
    assert torch.equal(logits[0], logits[1])
    assert relative(logits[0], logits[2]) < 1e-5
    for file in (cache_folder() / "features").iterdir():
        assert torch.load(file, weights_only=True).device.type == "cpu"


def test_the_tools_features_are_those_of_the_cpu(pretend, tmp_path, tiny_path, own_data):
    found = []
    for use_cuda in ("True", "False"):
        code = linear_probe_features.main(
            [
                "--split", "train", "--seed", "1", "--output-dir", str(tmp_path / use_cuda), "USE_CUDA", use_cuda,
                "--dataset-config-file", str(ROOT / "configs/datasets/folder.yaml"), "DATASET.PATH", str(own_data),
                "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0",
            ]
        )  # fmt: skip
        assert code == 0
        found.append(torch.tensor(np.load(tmp_path / use_cuda / "Folder/train.npz")["feature_list"]))
    assert relative(*found) < 1e-5


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("SoftCPT", ("TRAINER.SOFTCPT.CSC", True, "TRAINER.SOFTCPT.CLS_SAMPLE_RATE", 0.5)),
        ("MTCoOpHard", ("TRAINER.MTCOOPH.TSC", True)),
    ],
)
def test_several_tasks_are_learned_on_the_device(trainer, words, run, pretend, own_data, tmp_path):
    tasks = f"[['Folder', 'colours', '{own_data}'], ['Folder', 'things', '{own_data}']]"
    words += ("DATASET.NAME", "MultiTask", "DATASET.TASKS", tasks, "DATASET.PATH", "", "TEST.SAVE_PREDICTIONS", True)
    code, _, err = run(
        *words, "TEST.EVALUATOR", "ClassificationMT", "DATALOADER.TRAIN_X.BATCH_SIZE", 4, trainer=trainer
    )
    assert code == 0, err
    assert set(result_of(tmp_path / "out")["per_task"]) == {"colours", "things"}


def test_every_view_is_on_the_device_and_the_best_model_is_tested(run, pretend, tmp_path, monkeypatch):
    devices, outputs = [], MaPLeCLIP.outputs
    monkeypatch.setattr(
        MaPLeCLIP,
        "outputs",
        lambda self, batch: devices.append({v.device for v in batch.views}) or outputs(self, batch),
    )
    code, _, err = run("DATALOADER.K_TRANSFORMS", 2, "TEST.FINAL_MODEL", "best_val")
    assert code == 0, err
    assert devices == [{pretend}] * 2
    assert result_of(tmp_path / "out")["n_total"] > 0


def test_openais_functions_on_the_device(pretend, tiny_path):
    model, _ = clip.load(str(tiny_path), device="pretend")
    images, ids = torch.randn(2, 3, 32, 32).to(pretend), clip.tokenize(["a cat", "a dog"]).to(pretend)
    logits, _ = model(images, ids)
    assert (logits.shape, logits.dtype, logits.device.type) == ((2, 2), torch.float16, "pretend")
    on_cpu, _ = clip.load(str(tiny_path), device="cpu")
    assert relative(logits.float().cpu(), on_cpu(images.cpu(), ids.cpu())[0]) < 1e-2


def test_a_context_of_words_is_on_the_cpu(pretend, tiny_clip):
    context, _ = start_context(tiny_clip.to(pretend), 2, "a photo of a")
    assert context.device.type == "cpu"
