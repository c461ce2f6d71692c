"""What strangers' trainers and odd runs rely on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, result_of
from test_engine import Tiny

import train
from dassl.config import get_cfg_default, merge_file
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint
from experiments import run as protocols


class Stranger(Tiny):
    """A trainer that overrides what trainers of the family override."""

    def build_model(self):
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(self.num_classes))
        self.model(torch.zeros(1, 3, *self.cfg.INPUT.SIZE))
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("stranger", self.model, self.optim, self.sched)

    def load_model(self, directory, epoch=None):
        name = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        self.model.load_state_dict(load_checkpoint(Path(directory) / "stranger" / name)["state_dict"])

    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        self.evaluator.reset()
        for batch in self.test_loader:
            image, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(image), label)
        return next(iter(self.evaluator.evaluate().values()))


class Own(EvaluatorBase):
    """An evaluator that knows nothing of records."""

    def __init__(self, cfg, lab2cname=None, **kwargs):
        super().__init__(cfg)
        self.inner = Classification(cfg)

    def reset(self):
        self.inner.reset()

    def process(self, mo, gt):
        self.inner.process(mo, gt)

    def evaluate(self):
        return {"my_score": self.inner.record()["accuracy"]}


@pytest.fixture
def stranger(monkeypatch):
    monkeypatch.setitem(TRAINER_REGISTRY._objects, "Stranger", Stranger)
    monkeypatch.setitem(EVALUATOR_REGISTRY._objects, "Own", Own)


def test_a_strangers_trainer_leaves_a_result(stranger, run, tmp_path):
    code, _, err = run(trainer="Stranger")
    assert code == 0, err
    assert result_of(tmp_path / "out")["epoch"] == 1


def test_a_strangers_evaluator_leaves_a_result(run, tmp_path, stranger):
    code, _, err = run("TEST.EVALUATOR", "Own")
    assert code == 0, err
    assert "my_score" in result_of(tmp_path / "out")


def test_an_unfinished_training_is_not_tested(run, tmp_path, own_data):
    run("OPTIM.MAX_EPOCH", 2, output=tmp_path / "trained")
    done = tmp_path / "trained/result.json"
    done.unlink()
    last = tmp_path / "trained/MultiModalPromptLearner/model.pth.tar-2"
    last.rename(last.with_name("model.pth.tar-1"))

    cfg = get_cfg_default()
    merge_file(cfg, ROOT / "configs/datasets/folder.yaml")
    cfg.TEST.MODEL_DIR, cfg.OPTIM.MAX_EPOCH = str(tmp_path / "trained"), 2
    with pytest.raises(ValueError, match="not finished"):
        protocols.check_trained(cfg)
    assert protocols.last_epoch(str(tmp_path / "trained")) == ["--load-epoch", "1"]


def test_a_resume_from_another_run_is_refused(run, tmp_path):
    assert run()[0] == 0
    code, _, err = run("--resume", tmp_path / "out", "OPTIM.LR", 0.5, output=tmp_path / "other")
    assert code == 2
    assert "OPTIM.LR" in err


def test_a_result_without_its_config_is_no_evidence(run, tmp_path):
    assert run()[0] == 0
    (tmp_path / "out/config.yaml").write_text("")
    assert "of another run" in run()[2]
    (tmp_path / "out/config.yaml").unlink()
    assert "without its config.yaml" in run()[2]


def test_predictions_go_with_their_images(run, tmp_path, own_data):
    words = ("TEST.SAVE_PREDICTIONS", True, "DATALOADER.TEST.SAMPLER", "RandomSampler")
    assert run(*words)[0] == 0
    saved = np.load(tmp_path / "out/predictions.npz")
    folders = sorted(path.name for path in own_data.iterdir())
    assert [folders.index(path.split("/")[0]) for path in saved["impath"]] == saved["label"].tolist()
    hits = (saved["logits"].argmax(1) == saved["label"]).sum()
    assert hits == result_of(tmp_path / "out")["n_correct"]


def test_classes_of_the_same_name_are_told_apart():
    evaluator = Classification(get_cfg_default(), {0: "missile", 1: "missile", 2: "crane"})
    evaluator.process(torch.eye(3), torch.tensor([0, 1, 0]))
    assert evaluator.record()["per_class"] == {"missile (0)": 50.0, "missile (1)": 100.0}


def test_parts_that_were_cut_off_apart_go_on_together(run, tmp_path):
    """A kill between the saves of two parts: both go on from the last epoch that both have."""
    words = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    assert run(*words, trainer="SoftCPT", output=tmp_path / "whole")[0] == 0
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    (cut / "result.json").unlink()
    for part, epoch in (("prompt_learner", 2), ("task_prompt_learner", 2), ("prompt_gen", 1)):
        (cut / part / "checkpoint").write_text(f"model.pth.tar-{epoch}\n")
    assert run(*words, trainer="SoftCPT", output=cut)[0] == 0
    for part in ("task_prompt_learner", "prompt_gen"):
        whole, again = (
            torch.load(tmp_path / name / part / "model.pth.tar-3", weights_only=True)["state_dict"]
            for name in ("whole", "cut")
        )
        assert all(torch.equal(again[name], p) for name, p in whole.items())


@pytest.mark.parametrize("content", ["[]", "{}", '{"train": [1]}', "not json"])
def test_broken_picks_are_told(run, tmp_path, content):
    (tmp_path / "picks.json").write_text(content)
    (tmp_path / "picks.pkl").write_bytes(content.encode())
    for name in ("picks.json", "picks.pkl"):
        code, _, err = run("DATASET.FEWSHOT_FILE", tmp_path / name)
        assert code == 2
        assert name in err


def test_own_lists_with_odd_rows(run, tmp_path, own_data):
    for rows in ([{"path": "a.png"}], [{"path": "a.png", "class": None}], ["x"]):
        (tmp_path / "list.json").write_text(json.dumps(rows))
        code, _, err = run("DATASET.PATH", tmp_path / "list.json")
        assert code == 2
        assert "entry 1" in err
    rows = [{"path": f"blue/{n}.png", "class": c} for c in (1, 2) for n in range(3 * c - 3, 3 * c)]
    (own_data / "numbers.json").write_text(json.dumps(rows))
    assert run("DATASET.PATH", own_data / "numbers.json", "DATASET.NUM_SHOTS", 1)[0] == 0
    (own_data / "numbers.json").unlink()


def test_the_scale_of_amp_goes_on_after_a_resume(run, tmp_path, monkeypatch):
    """GradScaler works on a CPU too: with it the resumed run has the scale that the first one ended with."""
    from trainers.base import PromptTrainer

    build, scales = PromptTrainer.build_model, []

    def with_scaler(self):
        build(self)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1, enabled=True)

    def before_train(self, original=PromptTrainer.before_train):
        original(self)
        scales.append(self.scaler.get_scale())

    monkeypatch.setattr(PromptTrainer, "build_model", with_scaler)
    monkeypatch.setattr(PromptTrainer, "before_train", before_train)
    assert run("OPTIM.MAX_EPOCH", 1)[0] == 0
    (tmp_path / "out/result.json").unlink()
    assert run("OPTIM.MAX_EPOCH", 1)[0] == 0
    assert scales == [4.0, 16.0]  # doubled by each of the two batches


def test_the_words_of_a_template_may_hold_braces(run, tmp_path, own_data):
    shutil.copytree(own_data, tmp_path / "braces")
    (tmp_path / "braces/blue").rename(tmp_path / "braces/{blue} %s")
    code, _, err = run("DATASET.PATH", tmp_path / "braces", trainer="ZeroshotCLIP")
    assert code == 0, err
    assert "{blue} %s" in result_of(tmp_path / "out")["per_class"]


def test_prompts_that_are_the_same_are_told(run, tmp_path, own_data):
    shutil.copytree(own_data, tmp_path / "twins")
    shutil.copytree(own_data / "blue", tmp_path / "twins/Blue")
    assert (
        "'Blue' and 'blue' have the same prompt" in run("DATASET.PATH", tmp_path / "twins", trainer="ZeroshotCLIP")[1]
    )


def test_sixteen_bit_images_keep_their_range(tmp_path):
    from PIL import Image

    from dassl.utils import InputError, read_image

    ramp = np.linspace(0, 65535, 100).reshape(10, 10)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "ramp.png")
    pixels = np.asarray(read_image(tmp_path / "ramp.png"))[..., 0]
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.abs(pixels - ramp / 256).max() < 2
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "ramp.tif")
    with pytest.raises(InputError, match="mode F"):
        read_image(tmp_path / "ramp.tif")


def test_own_lists_that_contradict_themselves(run, tmp_path, own_data):
    twice = [{"path": str(own_data / "blue/0.png"), "class": "blue", "split": s} for s in ("train", "test")]
    (tmp_path / "list.json").write_text(json.dumps(twice))
    assert "is there twice" in run("DATASET.PATH", tmp_path / "list.json")[2]
    path = [str(own_data / f"blue/{n}.png") for n in range(3)]
    split = {"train": [[path[0], 0, "a"], [path[1], 1, "b"]], "val": [], "test": [[path[2], 7, "c"]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    assert "labels [7] have no images for training" in run("DATASET.PATH", tmp_path / "split.json")[2]
    split["test"] = [[path[2], 1, "c"]]
    (tmp_path / "split.json").write_text(json.dumps(split))
    assert "label 1 is called 'b' and 'c'" in run("DATASET.PATH", tmp_path / "split.json")[2]


def test_new_classes_of_other_data_are_not_tested(run, tmp_path, own_data):
    assert run("DATASET.SUBSAMPLE_CLASSES", "base", output=tmp_path / "trained")[0] == 0
    import yaml

    words = "--trainer MaPLe --seed 1 --dataset-config-file configs/datasets/folder.yaml DATASET.SUBSAMPLE_CLASSES new"
    words += f" DATASET.PATH {tmp_path} --model-dir {tmp_path}/trained"
    cfg = train.build_config(train.parse_arguments(words.split()))
    assert yaml.safe_load((tmp_path / "trained/config.yaml").read_text())["DATASET"]["PATH"] == str(own_data)
    with pytest.raises(ValueError, match=r"DATASET\.PATH"):
        protocols.check_trained(cfg)


def test_test_sets_are_not_trained_on(run, tmp_path):
    import layouts

    layouts.make_ImageNetA(tmp_path)
    words = ("DATASET.NAME", "ImageNetA", "DATASET.PATH", "", "DATASET.SUBSAMPLE_CLASSES", "base")
    assert "is a test set: train on another" in run(*words)[2]
    code, _, err = run(*words, trainer="ZeroshotCLIP")
    assert code == 0, err
    assert result_of(tmp_path / "out")["subsample_classes"] == "all"
