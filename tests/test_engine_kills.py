"""A run that is killed before any of its file operations ends with the same bits when it is resumed."""

import pytest
from file_operations import contents, recorded, write

from dassl.engine.trainer import SimpleTrainer
from experiments import repeat

#: Files whose content names the run's folder or the time. The others must be equal byte for byte.
_OWN = ("config.yaml", "inputs.json", "result.json")
_RESULTS = (0.1, 0.3, 0.2)  # validation results of the epochs, so that the best model is replaced once
METHODS = {
    "MaPLe": (),
    "CoOp": ("TEST.FINAL_MODEL", "best_val"),
    "CoCoOp": (),
    "SoftCPT": ("TEST.FINAL_MODEL", "best_val"),
    "LinearProbe": (),
    "PromptSRC": ("OPTIM.MAX_EPOCH", 4, "TRAIN.VAL_FREQ", 1, "TRAIN.PATIENCE", 1),  # stops after epoch 3
}


@pytest.fixture
def killable(run, tmp_path, monkeypatch):
    """killable(trainer) -> (start, reference, states): start() runs the trainer in tmp_path/out.

    `reference` is the folder of an undisturbed run. `states` are the states of the folder before its file operations.
    """
    tested = SimpleTrainer.test

    def test(trainer, split=None):
        result = tested(trainer, split)
        return _RESULTS[trainer.epoch] if split == "val" else result

    monkeypatch.setattr(SimpleTrainer, "test", test)

    def make(trainer):
        words = ("OPTIM.MAX_EPOCH", 3, "DATASET.NUM_SHOTS", 1, "TEST.SAVE_PREDICTIONS", True, *METHODS[trainer])

        def start(output="out", workers=0):
            code, out, err = run(*words, "DATALOADER.NUM_WORKERS", workers, trainer=trainer, output=tmp_path / output)
            assert code == 0, err
            return out

        start("reference")
        with recorded(tmp_path / "out", tmp_path / "states"):
            start(workers=1)
        return start, tmp_path / "reference", sorted((tmp_path / "states").iterdir())

    return make


def check_all_resume(states, start, reference, folder):
    """Resume from each state of `folder`, and compare the files with those of `reference`."""
    expected = contents(reference)
    for state in states:
        write(contents(state), folder)
        start()
        found = contents(folder)
        assert set(found) == set(expected), state.name  # nothing is left over
        assert [name for name in found if name not in _OWN and found[name] != expected[name]] == [], state.name
        assert all(same for _, same in repeat.compare(reference, folder)), state.name


def test_runs_killed_while_they_replace_the_best_model_end_with_the_same_bits(killable, tmp_path):
    """SoftCPT saves three models. Without care, a kill leaves parts of two epochs, and a wrong accuracy."""
    start, reference, states = killable("SoftCPT")
    replacing = [state for state in states if any(state.rglob("*.next"))]
    partly = [state for state in replacing if len(list(state.rglob("*.next"))) < 3 and any(state.rglob("*-1"))]
    check_all_resume([partly[0], partly[-1], states[-1]], start, reference, tmp_path / "out")


@pytest.mark.long
@pytest.mark.parametrize("trainer", METHODS)
def test_a_kill_before_any_file_operation_changes_nothing(trainer, killable, tmp_path, capsys):
    start, reference, states = killable(trainer)
    assert len(states) > 15
    check_all_resume(states, start, reference, tmp_path / "out")
    assert repeat.main([str(tmp_path / "out")]) == 0
    assert "Both runs are equal to the last bit" in capsys.readouterr().out
