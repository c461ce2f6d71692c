"""Rules of the method contract that a subclass could break without noticing."""

import shutil

import numpy as np
import pytest
import torch
from conftest import result_of
from tiny_methods import make

from clip.inputs import TowerInputs
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, load_checkpoint
from trainers.base import Batch, Task, TowerPrompts, load_method, total
from trainers.common.checkpoint import note_trained_classes, plain_names
from trainers.coop import CoOp, CoOpCLIP


class PromptedImages(CoOpCLIP):
    """Adds an image prompt to CoOp, and says nothing of cached features."""

    def image_inputs(self):
        prompt = torch.ones(2, self.clip.sizes.vision_width, device=self.clip.logit_scale.device)
        return TowerInputs({0: prompt})


class PromptedCoOp(CoOp):
    method = PromptedImages


class DoubledLogits(CoOp):
    """Changes the inference, and says nothing of cached features."""

    def model_inference(self, input):
        return 2 * super().model_inference(input)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    trainers = dict(TRAINER_REGISTRY._objects) | {"PromptedCoOp": PromptedCoOp, "DoubledLogits": DoubledLogits}
    for cls in (PromptedCoOp, DoubledLogits):
        cls.node = "COOP"
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", trainers)


CONFIG = ("--config-file", "configs/trainers/CoOp/vit_b16_ep50.yaml", "TEST.SAVE_PREDICTIONS", "True")


@pytest.mark.parametrize("trainer", ["PromptedCoOp", "DoubledLogits"])
def test_cached_features_never_skip_what_a_subclass_changes(trainer, run, tmp_path):
    logits = {}
    for name, cached in ((trainer, True), (trainer, False), ("CoOp", True)):
        output = tmp_path / f"{name}{cached}"
        code, _, err = run(*CONFIG, "TEST.CACHE_FEATURES", cached, trainer=name, output=output)
        assert code == 0, err
        logits[name, cached] = np.load(output / "predictions.npz")["logits"]
    assert np.array_equal(logits[trainer, True], logits[trainer, False])
    assert not np.array_equal(logits[trainer, True], logits["CoOp", True])


def test_names_of_a_subclass_of_str_are_saved_as_strings():
    names = plain_names([np.str_("cat"), "dog"])
    assert [type(name) for name in names] == [str, str]
    assert plain_names([Task(np.str_("pets"), [np.str_("cat")])]) == [["pets", ["cat"]]]


def test_a_subset_of_the_trained_classes_is_not_new(tiny_clip, tmp_path):
    method = make("CoOp", tiny_clip, names=["cat", "dog"])
    for trained, is_new in (
        (["dog", "cat", "owl"], False),
        (["cat", "owl"], True),
        ([Task("pets", ["cat", "dog"])], False),
    ):
        note_trained_classes(method, trained, default=True, source=tmp_path)
        assert method.has_new_classes is is_new
    note_trained_classes(method, None, default=True, source=tmp_path)
    assert method.has_new_classes


def test_a_linear_probe_is_not_rebuilt_for_other_classes(run, tmp_path):
    assert run(trainer="LinearProbe")[0] == 0
    assert load_method(tmp_path / "out").classnames == ["blue", "green thing", "grey", "red_thing"]
    with pytest.raises(InputError, match="other classes"):
        load_method(tmp_path / "out", ["a", "b", "c", "d"])


def test_a_part_without_checkpoint_is_refused(run, tmp_path):
    assert run(trainer="SoftCPT")[0] == 0
    load_method(tmp_path / "out")
    shutil.rmtree(tmp_path / "out/prompt_gen")
    with pytest.raises(InputError, match="prompt_gen has no checkpoint"):
        load_method(tmp_path / "out")


def test_parts_of_one_epoch_are_rebuilt_together(run, tmp_path):
    assert run("OPTIM.MAX_EPOCH", 2, "TRAIN.CHECKPOINT_FREQ", 1, trainer="SoftCPT")[0] == 0
    (tmp_path / "out/prompt_gen/model.pth.tar-2").unlink()
    first = load_checkpoint(tmp_path / "out/task_prompt_learner/model.pth.tar-1")["state_dict"]["ctx"]
    assert torch.equal(load_method(tmp_path / "out").task_prompt_learner.ctx, first)


def test_a_term_of_weight_0_is_only_logged():
    infinite = torch.tensor(float("inf"), requires_grad=True)
    assert total({"ce": (1.0, torch.tensor(1.5)), "logged": (0.0, infinite)}).item() == 1.5


def test_tower_prompts_keep_their_layers_in_any_order():
    prompts = TowerPrompts([2, 0], 3, 8)
    assert prompts.prompts()[0] is prompts.VPT


def test_a_batch_holds_every_view(run, tmp_path, monkeypatch):
    seen: list[Batch] = []
    outputs = CoOpCLIP.outputs
    monkeypatch.setattr(CoOpCLIP, "outputs", lambda self, batch: seen.append(batch) or outputs(self, batch))
    code, _, err = run("DATALOADER.K_TRANSFORMS", 2, trainer="CoOp")
    assert code == 0, err
    assert {len(batch.views) for batch in seen} == {2}
    assert all(batch.views[0] is batch.images for batch in seen)
    assert not any(torch.equal(*batch.views) for batch in seen)
    assert result_of(tmp_path / "out")["n_total"] > 0
