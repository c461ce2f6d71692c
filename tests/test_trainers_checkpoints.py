"""Official checkpoints load into our methods, and ours have the official keys."""

import re
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from conftest import result_of
from small_clip import state_dict
from tiny_methods import TRAINERS, build, config, each_trainer, make

from clip.model import from_state_dict
from dassl.utils import InputError
from trainers.common.checkpoint import learned_tensors


class LiveScheduler:
    """What the original pickles into its checkpoints."""


@pytest.fixture
def official(tmp_path, tiny_weights, run):
    """A trained run of ours, and its prompts in the official form: the whole model, names of other classes."""
    code, _, err = run()
    assert code == 0, err
    ours = torch.load(tmp_path / "out/MultiModalPromptLearner/model.pth.tar-1", weights_only=True)["state_dict"]
    state = OrderedDict((name, p.half()) for name, p in ours.items())
    state["prompt_learner.token_prefix"] = torch.randn(9, 1, 128)
    state["prompt_learner.token_suffix"] = torch.randn(9, 74, 128)
    for name, weight in tiny_weights.items():
        if name.startswith("visual."):
            state[f"image_encoder.{name.removeprefix('visual.')}"] = weight.half()
        elif name == "logit_scale":
            state[name] = weight.half()
        elif not name.startswith("token_embedding"):
            state[f"text_encoder.{name}"] = weight.half()
    folder = tmp_path / "released/MultiModalPromptLearner"
    folder.mkdir(parents=True)

    def save(state=state):
        content = {"state_dict": state, "epoch": 5, "optimizer": None, "scheduler": {"successor": LiveScheduler()}}
        torch.save(content, folder / "model.pth.tar-5")

    save()
    return SimpleNamespace(state=state, save=save, folder=tmp_path / "released")


def test_an_official_checkpoint_is_tested(official, run, tmp_path):
    code, _, err = run("--eval-only", "--model-dir", official.folder, "--load-epoch", 5, output=tmp_path / "theirs")
    assert code == 0, err
    theirs, ours = result_of(tmp_path / "theirs"), result_of(tmp_path / "out")
    assert theirs["epoch"] == 5
    assert theirs["accuracy"] == pytest.approx(ours["accuracy"], abs=10)  # half precision prompts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("prompt_learner.compound_prompts_text.0"), "has no prompt_learner.compound_prompts_text.0"),
        (
            lambda s: s.update({"prompt_learner.compound_prompts_text.1": torch.zeros(2, 128)}),
            "compound_prompts_text.1",
        ),
        (lambda s: s.update({"prompt_learner.ctx": torch.zeros(4, 128)}), r"prompt_learner.ctx is \(4, 128\)"),
        (lambda s: s.update({"image_encoder.VPT": torch.zeros(2, 192)}), "image_encoder.VPT"),
        (lambda s: s.update({"image_encoder.proj": torch.zeros(8, 8)}), "another backbone"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_key(official, run, tmp_path, change, message):
    change(official.state)
    official.save()
    code, _, err = run("--eval-only", "--model-dir", official.folder, output=tmp_path / "theirs")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err), err


def test_prompts_of_a_vit_b16_are_small_on_disk(tmp_path):
    clip_model = from_state_dict(state_dict(vision_layers=9, transformer_layers=9))
    cfg = config("MaPLe", "TRAINER.MAPLE.PROMPT_DEPTH", "9")
    model = build("MaPLe", cfg, clip_model)
    torch.save({"state_dict": model.state_dict(), "epoch": 5}, tmp_path / "prompts.pt")
    assert (tmp_path / "prompts.pt").stat().st_size < 15_000_000


def official_form(folder: str, part: str, state: dict, tiny_weights: dict) -> dict:
    """What the original saves: half precision, class tokens of other classes, and where it saves it the whole model."""
    saved = OrderedDict((name, p.half() if p.is_floating_point() else p) for name, p in state.items())
    if part:
        prefix = "0." if folder == "prompt_learner" and not state else ""
        saved[f"{prefix}token_prefix"] = torch.randn(9, 1, 128)
        saved[f"{prefix}token_suffix"] = torch.randn(9, 74, 128)
        return saved
    saved |= {"prompt_learner.token_prefix": torch.randn(9, 1, 128)}
    towers = {"visual.": "image_encoder.", "": "text_encoder."}
    for name, weight in tiny_weights.items():
        start = "visual." if name.startswith("visual.") else ""
        if not name.startswith(("token_embedding", "logit_scale")):
            saved[towers[start] + name.removeprefix(start)] = weight.half()
    return saved


def random_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(tensor) if tensor.is_floating_point() else tensor.clone()


@each_trainer
def test_official_checkpoints_load_and_ours_have_their_keys(trainer, tiny_clip, tiny_weights, tmp_path):
    model = make(trainer, tiny_clip)
    parts = dict(model.named_modules())
    for folder, part in TRAINERS[trainer].checkpoints.items():
        if trainer == "LinearProbe" or part not in parts:
            continue
        ours = {name: random_like(p) for name, p in parts[part].state_dict().items()}
        theirs = official_form(folder, part, ours, tiny_weights)
        assert set(ours) <= set(theirs)
        found = learned_tensors({"state_dict": theirs}, parts[part], model, tmp_path)
        parts[part].load_state_dict(found)
        for name, p in parts[part].state_dict().items():
            assert torch.allclose(p, ours[name], rtol=1e-3, atol=1e-3)
        for name in ours:
            if ours[name].is_floating_point():
                with pytest.raises(InputError, match=f"{re.escape(name)} contains infinite or NaN values"):
                    learned_tensors(
                        {"state_dict": theirs | {name: ours[name] * torch.nan}}, parts[part], model, tmp_path
                    )
