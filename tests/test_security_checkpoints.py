"""Untrusted checkpoints: a run resumes, prompts are loaded unchanged, or there is one error."""

import copy
import io
import math

import pytest
import torch
from fuzzing import examples, limited, mutated
from hypothesis import given
from hypothesis import strategies as st

import train
from dassl.engine import build_trainer
from dassl.utils import InputError, load_checkpoint
from trainers.common.options import run_config

FOLDER = "prompt_learner"
ODD = st.sampled_from([None, [], {}, "", "x", True, -1, 0, 1.5, 10**40, math.nan, [[]], {0: 1}, {"a": {}}, b"\0"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_path, own_data):
    """A finished run of CoOp, which has one small checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / "out"
    argv = [
        "--trainer", "CoOp", "--seed", "1", "--output-dir", str(folder),
        "--dataset-config-file", "configs/datasets/folder.yaml", "DATASET.PATH", str(own_data),
        "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "DATASET.NUM_SHOTS", "1",
        "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", "OPTIM.NAME", "adamw",
    ]  # fmt: skip
    assert train.main(argv) == 0
    return folder


@pytest.fixture(scope="module")
def trainer(folder):
    return build_trainer(run_config(folder))


@pytest.fixture(scope="module")
def content(folder):
    return load_checkpoint(folder / FOLDER / "model.pth.tar-2")


@st.composite
def odd_contents(draw, content):
    """The content of a checkpoint in which entries at any depth are missing, are renamed or have odd values."""
    changed = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        node = changed
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            key = draw(st.sampled_from(keys))
            below = node[key]
            if isinstance(below, dict | list) and below and draw(st.integers(0, 3)):
                node = below
                continue
            kind = draw(st.sampled_from(["odd", "missing", "renamed", "shape"]))
            if kind == "shape" and isinstance(below, torch.Tensor):
                node[key] = torch.zeros(draw(st.sampled_from([(), (0,), (1,), (3, 3), (2, 1, 1, 1)])))
            elif kind in ("odd", "shape"):
                node[key] = copy.deepcopy(draw(ODD))  # the next change may be inside it
            else:
                del node[key]
                if kind == "renamed" and isinstance(node, dict):
                    node[draw(st.sampled_from([0, 7, "other"]))] = below
            break
    return changed


def saved(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def fresh(trainer):
    """Give the trainer new optimisers and schedules."""
    for registered in (trainer._models, trainer._optims, trainer._scheds):
        registered.clear()
    trainer._register_parts(has_parameters=True)


def resume_and_step(trainer, folder):
    """Resume as a training does, then do one step with the optimiser and the schedule."""
    fresh(trainer)
    start = trainer.resume_model_if_exist(str(folder))
    assert 0 <= start <= 2
    for parameter in trainer.model.prompt_learner.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.model_update()
    trainer.update_lr()
    assert math.isfinite(trainer.get_current_lr())
    state = load_checkpoint(folder / FOLDER / "model.pth.tar-2")["state_dict"]
    assert trainer.model.prompt_learner.ctx.shape == state["ctx"].shape


@given(data=st.data())
@examples(15, 300)
def test_a_checkpoint_resumes_or_is_one_error(data, trainer, content, tmp_path_factory, capsys):
    folder = tmp_path_factory.getbasetemp() / "odd_checkpoint"
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / FOLDER / "checkpoint").write_text("model.pth.tar-2\n")
    odd = data.draw(st.one_of(*[odd_contents(content).map(saved)] * 3, ODD.map(saved), mutated(saved(content))))
    (folder / FOLDER / "model.pth.tar-2").write_bytes(odd)
    for use in (resume_and_step, lambda trainer, folder: trainer.load_model(str(folder))):
        with limited():
            try:
                use(trainer, folder)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017  # a checkpoint may also be loaded
                assert "model.pth.tar-2" in str(error)  # noqa: PT017
    capsys.readouterr()


def test_an_odd_checkpoint_is_one_line_of_the_command(folder, content, run, tmp_path):
    """The same through train.py, for entries on which a training depends."""
    never_stepped = copy.deepcopy(content["optimizer"])
    never_stepped["state"][0]["step"] = -1  # the next step would divide by 0
    empty = {"state": {}, "param_groups": [{}]}
    for number, (key, value) in enumerate([("optimizer", empty), ("optimizer", never_stepped), ("classnames", 3)]):
        odd = tmp_path / f"{key}{number}"
        (odd / FOLDER).mkdir(parents=True)
        (odd / FOLDER / "checkpoint").write_text("model.pth.tar-2\n")
        (odd / FOLDER / "model.pth.tar-2").write_bytes(saved(content | {key: value}))
        tests = ("--eval-only", "--model-dir", odd) if key == "classnames" else ("--resume", odd, "OPTIM.MAX_EPOCH", 3)
        code, _, err = run("OPTIM.NAME", "adamw", *tests, trainer="CoOp", output=tmp_path / f"out{number}")
        assert (code, err.count("error: ")) == (2, 1), err
        assert "model.pth.tar-2" in err
        assert not (tmp_path / f"out{number}/result.json").exists()
