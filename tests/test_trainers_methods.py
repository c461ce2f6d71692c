"""What single methods promise: MaPLe, CoCoOp, SoftCPT."""

import pytest
import torch
from conftest import relative, result_of
from small_clip import state_dict
from tiny_methods import build, config, make

from clip.model import from_state_dict
from dassl.config import merge_words
from dassl.utils import InputError, count_num_param


def test_maple_has_the_papers_number_of_parameters():
    sizes = {"vision_layers": 12, "transformer_layers": 12, "image_resolution": 32}
    clip_model = from_state_dict(state_dict(**sizes))
    cfg = config("MaPLe", "TRAINER.MAPLE.PROMPT_DEPTH", "9")
    assert count_num_param(build("MaPLe", cfg, clip_model)) == 3_555_072
    merge_words(cfg, ["TRAINER.MAPLE.SHARED_PROJECTION", "True"])
    dagger = count_num_param(build("MaPLe", cfg, clip_model))
    assert dagger == 9 * 2 * 512 + 768 * 513  # about 9 times fewer


def test_maple_learns_two_words_and_keeps_the_others(tiny_clip):
    model = make("MaPLe", tiny_clip)
    ids = torch.tensor([[320, 1125, 539, 320]])  # a photo of a
    words = tiny_clip.token_embedding(ids)[0]
    assert torch.equal(model.prompt_learner.ctx, words[:2])
    prefix = model.prompts.with_context(torch.zeros(2, 128))[0][0]
    assert torch.equal(prefix[1:3], torch.zeros(2, 128))
    assert torch.equal(prefix[3:5], words[2:])
    random_context = make("MaPLe", tiny_clip, "TRAINER.MAPLE.N_CTX", "5").prompt_learner.ctx
    assert random_context.shape == (5, 128)
    assert random_context.std() < 0.03


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("TRAINER.MAPLE.PROMPT_DEPTH", "4"), "layers 1 to 3"),
        (("TRAINER.MAPLE.PROMPT_DEPTH", "0"), "layers 1 to 3"),
        (("TRAINER.MAPLE.N_CTX", "3", "TRAINER.MAPLE.CTX_INIT", "photo of"), "has 2 tokens, fewer than N_CTX 3"),
        (("TRAINER.MAPLE.N_CTX", "0"), "must be at least 1"),
    ],
)
def test_prompts_that_have_no_place_are_refused(tiny_clip, words, message):
    with pytest.raises(InputError, match=message):
        make("MaPLe", tiny_clip, *words)


def test_cocoop_at_batch_4_is_four_times_batch_1(tiny_clip):
    model, images = make("CoCoOp", tiny_clip), torch.randn(4, 3, 32, 32)
    one_by_one = torch.cat([model(image[None]) for image in images])
    assert relative(model(images), one_by_one) < 1e-5
    with torch.no_grad():
        assert relative(model(images.repeat(600, 1, 1, 1))[-4:], one_by_one) < 1e-5  # in parts, for the memory


def test_softcpt_runs_with_one_task_and_coops_settings(run, own_data, tmp_path):
    tasks = f"[['Folder', 'colour recognition', '{own_data}']]"
    words = [
        "DATASET.NAME",
        "MultiTask",
        "DATASET.TASKS",
        tasks,
        "DATASET.PATH",
        "",
        "TEST.EVALUATOR",
        "ClassificationMT",
    ]
    code, _, err = run(*words, "--config-file", "configs/trainers/CoOp/vit_b16_ep50.yaml", trainer="SoftCPT")
    assert code == 0, err
    assert list(result_of(tmp_path / "out")["per_task"]) == ["colour recognition"]
