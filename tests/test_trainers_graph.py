"""TRAINER.CUDA_GRAPH: captured steps give the results of eager steps, and steps that can't be captured stay eager.

`captured_steps.py` says what replaces CUDA graphs.
"""

import importlib
import json
import shutil
import sys

import captured_steps
import pytest
import torch
from captured_steps import (
    CAPTURED,
    RECORD,
    REPLAY,
    WARM_UP,
    assert_equal,
    batches,
    captured,
    eager,
    trained,
)
from recorded_ops import OpCapture
from tiny_methods import TRAINERS
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint
from trainers.common import graph
from trainers.coop import CoOp, CoOpCLIP

LEARNING = [name for name, cls in TRAINERS.items() if cls.checkpoints and cls.method.has_loop]


pytestmark = pytest.mark.usefixtures("cpu_as_gpu")


@pytest.mark.parametrize("name", LEARNING)
def test_captured_steps_of_every_trainer_equal_eager_steps(name, make_trainer):
    """Equal losses, accuracies, parameters, momentum, loss scales and learning rates, to the bit."""
    ours = captured(make_trainer(name))
    result = trained(ours)
    assert OpCapture.calls == (CAPTURED if ours.model.has_static_steps else [])
    assert_equal(result, trained(eager(make_trainer(name))))


def test_captured_steps_equal_plain_steps_up_to_rounding(make_trainer):
    """Plain steps read the learning rate as a number, in double precision."""
    ours = captured(make_trainer())
    (logs, _, rate), (plain, _, expected) = trained(ours), trained(make_trainer())
    assert rate == expected
    assert isinstance(ours.optim.param_groups[0]["lr"], float)  # checkpoints hold a number
    assert [log["loss"] for log in logs] == pytest.approx([log["loss"] for log in plain], rel=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad"])
def test_captured_steps_of_every_fused_optimiser(name, make_trainer):
    words = ("CoOp", "OPTIM.NAME", name)
    result = trained(captured(make_trainer(*words)))
    assert OpCapture.calls == CAPTURED
    assert_equal(result, trained(eager(make_trainer(*words))))


def test_chunks_of_the_text_tower_give_the_same_results(make_trainer):
    words = ("MaPLe", "TRAINER.TEXT_CHUNK", "24")
    ours = captured(make_trainer(*words))
    assert ours.model.clip.text_chunk == 24
    result = trained(ours)
    assert OpCapture.calls in (CAPTURED, [WARM_UP] * 3)  # the second, if dividing into chunks reads values
    assert_equal(result, trained(eager(make_trainer(*words))))


def test_every_batch_shape_has_a_graph(make_trainer):
    sizes = (4, 4, 2, 4, 2, 4, 4, 2, 2, 4)
    result = trained(captured(make_trainer()), sizes)
    four = [WARM_UP, WARM_UP, WARM_UP, RECORD, REPLAY, REPLAY, REPLAY]
    two = [WARM_UP, WARM_UP, WARM_UP, RECORD, REPLAY]
    assert OpCapture.calls == [*four[:2], two[0], four[2], two[1], *four[3:6], *two[2:], four[6]]
    assert_equal(result, trained(eager(make_trainer()), sizes))


def test_a_test_after_a_replay_has_new_text_features(make_trainer):
    trainer = captured(make_trainer())
    for batch in batches(trainer.model.clip, (4,) * 6):
        trainer.forward_backward(batch)
        with torch.no_grad():
            cached = trainer.model.text_features()
            trainer.model.clear_text_cache()
            assert torch.equal(trainer.model.text_features(), cached)
    assert OpCapture.calls[-1] == REPLAY


class TwoViews(CoOpCLIP):
    """Has two losses. One compares the views of an image, under dropout."""

    def losses(self, output, batch):
        image, other = (self.encode_image(view) for view in batch.views)
        same = F.cosine_similarity(F.dropout(output.text_features).mean(0)[None], image - other).mean()
        return super().losses(output, batch) | {"same": (0.5, same)}


class TrainsTwoViews(CoOp):
    method = TwoViews


def test_replays_read_all_views_and_draw_new_random_numbers(make_trainer, monkeypatch):
    def twice(clip, sizes, once=batches):
        images = zip(once(clip, sizes), once(clip, sizes)[::-1], strict=True)
        return [batch | {"img": [batch["img"], other["img"]]} for batch, other in images]

    monkeypatch.setattr(captured_steps, "batches", twice)
    result = trained(captured(make_trainer(TrainsTwoViews)))
    assert OpCapture.calls == CAPTURED
    assert set(result[0][0]) == {"loss", "ce", "same", "acc"}
    assert_equal(result, trained(eager(make_trainer(TrainsTwoViews))))


class Rebinds(CoOpCLIP):
    """Replaces a tensor at the end of an epoch."""

    factor = torch.tensor(1.0)

    def losses(self, output, batch):
        return {"ce": (1.0, self.factor * F.cross_entropy(output.logits, batch.labels))}

    def end_epoch(self, epoch, is_last):
        self.factor = self.factor + 1


class TrainsRebinds(CoOp):
    method = Rebinds


def test_steps_are_captured_again_if_a_method_changes_between_epochs(make_trainer):
    def results(trainer):
        trainer.max_epoch = 100
        return trained(trainer, between=lambda number: number % 2 and trainer.end_epoch())

    ours = captured(make_trainer(TrainsRebinds))
    result = results(ours)
    assert OpCapture.calls == [WARM_UP, WARM_UP, WARM_UP, RECORD, REPLAY, RECORD, REPLAY]
    assert_equal(result, results(eager(make_trainer(TrainsRebinds))))


# ---- runs ----

RUN = ("TRAINER.CUDA_GRAPH", True, "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 1)


def test_a_resumed_run_with_graphs_ends_with_the_same_bits(run, tmp_path):
    """The whole run replays its last steps; the resumed run warms up and captures again."""
    assert run(*RUN, trainer="CoOp", output=tmp_path / "whole")[0] == 0
    assert OpCapture.calls == [*[WARM_UP] * 3, RECORD, *[REPLAY] * 5]
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut/result.json").unlink()
    (tmp_path / "cut/prompt_learner/checkpoint").write_text("model.pth.tar-2\n")
    code, out, err = run(*RUN, trainer="CoOp", output=tmp_path / "cut")
    assert (code, "will resume training" in out) == (0, True), err
    assert OpCapture.calls == [*[WARM_UP] * 3, RECORD, REPLAY]
    last = [load_checkpoint(tmp_path / folder / "prompt_learner/model.pth.tar-4") for folder in ("whole", "cut")]
    assert_equal(last[0]["optimizer"], last[1]["optimizer"])
    assert_equal(last[0]["state_dict"], last[1]["state_dict"])
    whole, cut = ((tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("whole", "cut"))
    assert [json.loads(line) for line in whole] == [json.loads(line) for line in cut]
    code, out, err = run(*RUN, "TRAINER.CUDA_GRAPH", False, trainer="CoOp", output=tmp_path / "cut")
    assert (code, "Finished already" in out) == (0, True), err  # with and without graphs, it is the same run


def test_a_cpu_trains_without_graphs_and_says_so(run, monkeypatch):
    monkeypatch.delitem(graph.CAPTURES, "cpu")
    code, out, err = run("TRAINER.CUDA_GRAPH", True, trainer="CoOp")
    assert (code, out.count("TRAINER.CUDA_GRAPH: training without CUDA graphs")) == (0, 1), err


def test_a_plugin_with_a_teacher_and_an_average_is_captured(run, monkeypatch):
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", dict(TRAINER_REGISTRY._objects))
    sys.modules.pop("plugins.taught_prompt", None)
    importlib.import_module("plugins.taught_prompt")
    code, _, err = run(*RUN, trainer="TaughtPrompt")
    assert code == 0, err
    assert OpCapture.calls == [*[WARM_UP] * 3, RECORD, REPLAY, *[RECORD, REPLAY, REPLAY] * 2]
