"""What a run's result depends on: data, weights, tested prompts and the result's files. Each change is noticed."""

import shutil

import pytest
import torch
from conftest import COLORS, make_image, result_of
from test_engine_resume import Killed

from dassl.utils import load_checkpoint
from trainers.common import trainer
from trainers.common.trainer import PromptTrainer

CHANGES = {
    "replaced image": ("contents of images", lambda data: make_image(data / "blue/0.png", (1, 2, 3), 9)),
    "moved image": ("moved to another class", lambda data: (data / "blue/0.png").rename(data / "grey/6.png")),
    "replaced weights": ("weights", lambda data: _change_weights(data.parent / "weights.pt")),
}


def _change_weights(path):
    weights = torch.load(path, weights_only=True)
    torch.save(weights | {"logit_scale": weights["logit_scale"] + 1}, path)


@pytest.fixture
def owned(run, tmp_path, own_data, tiny_path):
    """Like `run`, but on copies of the data and the weights, which a test may change."""
    shutil.copytree(own_data, tmp_path / "data")
    shutil.copy(tiny_path, tmp_path / "weights.pt")
    paths = ("DATASET.PATH", tmp_path / "data", "MODEL.BACKBONE.PATH", tmp_path / "weights.pt")
    return lambda *words, **options: run(*paths, *words, **options)


def stop_after_one_epoch(owned, monkeypatch, *words):
    """Kill a run at the start of its second epoch."""
    with monkeypatch.context() as patch:
        run_epoch = PromptTrainer.run_epoch

        def until(trainer):
            if trainer.epoch == 1:
                raise Killed
            run_epoch(trainer)

        patch.setattr(PromptTrainer, "run_epoch", until)
        with pytest.raises(Killed):
            owned("OPTIM.MAX_EPOCH", 2, *words)


@pytest.mark.parametrize("change", ["moved image", "replaced weights"])  # others: test_experiments_finished.py
def test_a_change_after_the_end_is_an_error(change, owned, tmp_path):
    assert owned(trainer="ZeroshotCLIP")[0] == 0
    before = (tmp_path / "out/result.json").read_bytes()
    text, do = CHANGES[change]
    do(tmp_path / "data")
    code, _, err = owned(trainer="ZeroshotCLIP")
    assert code == 2
    assert text in err
    assert "choose another --output-dir, or delete the folder" in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "out/result.json").read_bytes() == before


@pytest.mark.parametrize("change", ["replaced image", "replaced weights"])
def test_a_change_between_stop_and_resume_is_an_error(change, owned, tmp_path, monkeypatch):
    stop_after_one_epoch(owned, monkeypatch)
    text, do = CHANGES[change]
    do(tmp_path / "data")
    code, _, err = owned("OPTIM.MAX_EPOCH", 2)
    assert code == 2
    assert text in err
    assert not (tmp_path / "out/result.json").exists()


def test_data_may_move_and_times_may_change(owned, tmp_path, monkeypatch, own_data):
    """DATASET.PATH is a part of the config, so the folder keeps its path here. All times are new."""
    stop_after_one_epoch(owned, monkeypatch)
    shutil.rmtree(tmp_path / "data")
    for name in COLORS:
        shutil.copytree(own_data / name, tmp_path / "data" / name, copy_function=shutil.copyfile)
    assert owned("OPTIM.MAX_EPOCH", 2)[0] == 0
    assert result_of(tmp_path / "out")["epoch"] == 2


def test_a_test_of_prompts_that_were_trained_anew_is_repeated(owned, tmp_path, monkeypatch):
    """The result of a test names the prompts that it has tested. Its folder is equal, but the prompts aren't."""
    tested, tests = tmp_path / "tested", ("--eval-only", "--model-dir", tmp_path / "out")
    assert owned()[0] == 0
    assert owned(*tests, output=tested)[0] == 0
    before = result_of(tested)["prompts"]
    assert "Finished already" in owned(*tests, output=tested)[1]
    shutil.rmtree(tmp_path / "out")
    assert owned()[0] == 0  # the same bits
    assert "Finished already" in owned(*tests, output=tested)[1]
    shutil.rmtree(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", lambda *_, **__: None)
        assert owned()[0] == 0  # the same config leads to other prompts, for example on another machine
    code, out, _ = owned(*tests, output=tested)
    assert (code, "Finished already" in out) == (0, False)
    assert "Not finished any more: the trained prompts in" in out
    assert result_of(tested)["prompts"] != before


def test_keys_of_the_test_cause_a_new_test_at_most(run, tmp_path):
    """`sweep.sh emoji_food` asks for predictions after `base2new_train.sh emoji_food 1`."""
    assert run()[0] == 0
    prompts = (tmp_path / "out/MultiModalPromptLearner/model.pth.tar-1").stat().st_mtime_ns
    for words in (("TEST.SAVE_PREDICTIONS", True), ("TEST.SPLIT", "val")):
        code, out, err = run(*words)
        assert code == 0, err
        assert f"Not finished any more: {words[0]} changed" in out
    assert (tmp_path / "out/predictions.npz").is_file()
    assert result_of(tmp_path / "out")["split"] == "val"
    assert "Finished already" in run("TEST.SPLIT", "val", "TEST.SAVE_PREDICTIONS", False)[1]  # fewer files are wanted
    assert (tmp_path / "out/MultiModalPromptLearner/model.pth.tar-1").stat().st_mtime_ns == prompts
    assert run("OPTIM.LR", 0.5)[0] == 2


def test_the_choice_of_the_best_model_depends_on_the_evaluation(run):
    words = ("TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 1)
    assert run(*words, trainer="CoOp")[0] == 0
    code, _, err = run(*words, "DATALOADER.TEST.BATCH_SIZE", 3, trainer="CoOp")
    assert (code, "DATALOADER.TEST.BATCH_SIZE" in err) == (2, True)


def test_deleted_files_of_a_finished_run_are_made_again(run, tmp_path):
    words, prompts = ("TEST.SAVE_PREDICTIONS", True), tmp_path / "out/MultiModalPromptLearner"
    assert run(*words)[0] == 0
    before = result_of(tmp_path / "out")
    (tmp_path / "out/predictions.npz").unlink()
    assert "predictions.npz is missing or has changed" in run(*words)[1]
    shutil.rmtree(prompts)
    assert "the trained prompts in" in run(*words)[1]
    assert (prompts / "model.pth.tar-1").is_file()
    after = result_of(tmp_path / "out")
    assert [after[key] for key in ("prompts", "files")] == [before[key] for key in ("prompts", "files")]


def test_a_resume_keeps_the_chunk_size_of_the_first_start(owned, tmp_path, monkeypatch):
    """It depends on the machine's memory, and another size changes the last bits of the prompts."""
    stop_after_one_epoch(owned, monkeypatch)
    first = load_checkpoint(tmp_path / "out/MultiModalPromptLearner/model.pth.tar-1")["text_chunk"]
    monkeypatch.setattr(trainer, "device_memory", lambda device: 2**20)
    assert owned("OPTIM.MAX_EPOCH", 2)[0] == 0
    assert result_of(tmp_path / "out")["text_chunk"] == first > 256
