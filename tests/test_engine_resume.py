"""Checkpoints and resume: a resumed run ends with the same bits, and a folder of another run is refused."""

import shutil

import pytest
import torch
from tiny_engine import Killed, LinearTrainer, kill_at

from dassl.utils import InputError, load_checkpoint


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("final", ["last_step", "best_val"])
def test_a_resumed_run_ends_with_the_same_bits(make_config, tmp_path, final, stop, capsys):
    whole = LinearTrainer(make_config("TEST.FINAL_MODEL", final))
    whole.train()
    overrides = ("TEST.FINAL_MODEL", final, "OUTPUT_DIR", str(tmp_path / "cut"))
    cut = LinearTrainer(make_config(*overrides))
    kill_at(cut, stop)
    with pytest.raises(Killed):
        cut.train()
    torch.rand(7)  # another process has another random state
    resumed = LinearTrainer(make_config(*overrides))
    resumed.train()
    assert resumed.start_epoch == stop
    assert torch.equal(resumed.model[1].weight, whole.model[1].weight)
    assert resumed.best_result == whole.best_result
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "out/metrics.jsonl").read_text()
    best = ["model-best.pth.tar"] if final == "best_val" else []
    files = sorted(path.name for path in (tmp_path / "cut/linear").iterdir())
    assert files == sorted(["checkpoint", "model.pth.tar-2", "model.pth.tar-3", *best])
    assert "Finish training\nFinished training\n" in capsys.readouterr().out


def test_a_resume_falls_back_to_the_newest_checkpoint_that_can_be_read(make_config, tmp_path, capsys):
    LinearTrainer(make_config()).train()
    out = tmp_path / "out"
    (out / "linear/checkpoint").write_text("nothing")
    assert LinearTrainer(make_config()).resume_model_if_exist(str(out)) == 3
    (out / "linear/model.pth.tar-3").write_bytes(b"cut")
    assert LinearTrainer(make_config()).resume_model_if_exist(str(out)) == 2
    assert "Warning: can't read the checkpoint" in capsys.readouterr().out
    (out / "linear/model.pth.tar-2").write_bytes(b"cut")
    with pytest.raises(InputError, match=rf"no checkpoint in {out} can be read .*Delete {out} to train from the start"):
        LinearTrainer(make_config()).resume_model_if_exist(str(out))


class Counter(LinearTrainer):
    """Counts epochs in a value that is no parameter."""

    count = 0

    def end_epoch(self):
        self.count += 1

    def extra_state(self):
        return {"count": self.count}

    def load_extra_state(self, checkpoint):
        self.count = checkpoint["count"]


def test_extra_state_is_saved_and_restored(make_config, tmp_path):
    cut = Counter(make_config())
    kill_at(cut, 2)
    with pytest.raises(Killed):
        cut.train()
    assert load_checkpoint(tmp_path / "out/linear/model.pth.tar-2")["count"] == 2
    resumed = Counter(make_config())
    resumed.train()
    assert resumed.count == 3


def test_extra_state_is_not_restored_by_a_test(make_config, tmp_path):
    Counter(make_config("OPTIM.MAX_EPOCH", 1)).train()
    tested = Counter(make_config())
    tested.load_model(str(tmp_path / "out"))
    assert (tested.count, tested.loaded_epoch) == (0, 1)


def test_checkpoint_freq_keeps_checkpoints(make_config, tmp_path):
    trainer = LinearTrainer(make_config("TRAIN.CHECKPOINT_FREQ", 2))
    trainer.train()
    files = sorted(path.name for path in (tmp_path / "out/linear").glob("model*"))
    assert files == ["model.pth.tar-2", "model.pth.tar-3"]
    trainer.load_model(str(tmp_path / "out"), epoch=2)
    assert trainer.loaded_epoch == 2
    with pytest.raises(FileNotFoundError, match=r"no model\.pth\.tar-1 .*model\.pth\.tar-2, model\.pth\.tar-3"):
        trainer.load_model(str(tmp_path / "out"), epoch=1)
    state = load_checkpoint(tmp_path / "out/linear/model.pth.tar-3")
    assert set(state) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}


def test_models_saved_at_different_epochs_resume_from_the_last_common_one(run, tmp_path):
    """A kill between two `save_checkpoint` calls leaves one model an epoch ahead."""
    overrides = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    assert run(*overrides, trainer="SoftCPT", output=tmp_path / "whole")[0] == 0
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    (cut / "result.json").unlink()
    for part, epoch in (("prompt_learner", 2), ("task_prompt_learner", 2), ("prompt_gen", 1)):
        (cut / part / "checkpoint").write_text(f"model.pth.tar-{epoch}\n")
    assert run(*overrides, trainer="SoftCPT", output=cut)[0] == 0
    for part in ("task_prompt_learner", "prompt_gen"):
        whole, resumed = (
            torch.load(tmp_path / name / part / "model.pth.tar-3", weights_only=True)["state_dict"]
            for name in ("whole", "cut")
        )
        assert all(torch.equal(resumed[name], p) for name, p in whole.items())


def test_a_resume_from_another_run_is_refused(run, tmp_path):
    assert run()[0] == 0
    code, _, err = run("--resume", tmp_path / "out", "OPTIM.LR", 0.5, output=tmp_path / "other")
    assert code == 2
    assert "OPTIM.LR" in err


def test_a_result_without_its_config_is_refused(run, tmp_path):
    assert run()[0] == 0
    (tmp_path / "out/config.yaml").write_text("")
    assert "of another run" in run()[2]
    (tmp_path / "out/config.yaml").unlink()
    assert "without its config.yaml" in run()[2]
