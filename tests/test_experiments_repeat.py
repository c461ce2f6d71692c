"""Repeating a run from its folder, and what must not change its bits: workers, resumes, other processes."""

import shutil

import pytest
import torch

from experiments import repeat


def test_a_training_run_is_repeated_from_its_folder(run, capsys, tmp_path):
    assert run("TEST.SAVE_PREDICTIONS", True, "OPTIM.MAX_EPOCH", 2, output=tmp_path / "trained")[0] == 0
    assert repeat.main([str(tmp_path / "trained"), "--output", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    checkpoint = "MultiModalPromptLearner/model.pth.tar-2"
    for name in ("result.json", "fewshot.json", "metrics.jsonl", "predictions.npz", checkpoint):
        assert f"equal    {name}" in out
    content = torch.load(tmp_path / "trained" / checkpoint, weights_only=True)
    content["state_dict"]["prompt_learner.ctx"][0, 0] += 1e-6
    torch.save(content, tmp_path / "trained" / checkpoint)
    assert repeat.main([str(tmp_path / "trained")]) == 1
    assert f"DIFFERS  {checkpoint}" in capsys.readouterr().out


def test_a_test_run_is_repeated_from_its_folder(run, capsys, tmp_path):
    assert run(output=tmp_path / "trained")[0] == 0
    options = ("--eval-only", "--model-dir", tmp_path / "trained", "TEST.SAVE_PREDICTIONS", True)
    assert run(*options, output=tmp_path / "tested")[0] == 0
    assert repeat.main([str(tmp_path / "tested")]) == 0
    assert "equal    predictions.npz" in capsys.readouterr().out


def test_runs_that_can_not_be_repeated_are_refused(run, tmp_path, capsys):
    assert repeat.main([str(tmp_path)]) == 2
    assert "it holds no config.yaml" in capsys.readouterr().err
    assert run("SEED", "-1")[0] == 0
    assert repeat.main([str(tmp_path / "out")]) == 2
    assert "was not seeded" in capsys.readouterr().err


def test_one_process_at_a_time_in_a_folder(tmp_path, capsys):
    """The lock of a run's folder is held inside the context, and released after it."""
    from filelock import FileLock, Timeout

    from dassl.engine.run_folder import exclusive_lock

    with exclusive_lock(tmp_path), pytest.raises(Timeout):
        FileLock(tmp_path / ".lock").acquire(timeout=0)
    FileLock(tmp_path / ".lock").acquire(timeout=0)


@pytest.mark.parametrize("trainer", ["MaPLe", "CoCoOp"])
def test_neither_workers_nor_resumes_change_a_bit(trainer, run, tmp_path):
    """Prompts and logits are bit-equal for 0, 1 and 2 workers, and for a stop after every epoch."""
    options = ["OPTIM.MAX_EPOCH", 3, "TEST.SAVE_PREDICTIONS", "True", "TRAIN.CHECKPOINT_FREQ", 1]
    for workers in (0, 1, 2):
        assert run(*options, "DATALOADER.NUM_WORKERS", workers, trainer=trainer, output=tmp_path / str(workers))[0] == 0
    first = tmp_path / "0"
    for workers in (1, 2):
        assert all(same for _, same in repeat.compare(first, tmp_path / str(workers)))
    for epoch in (1, 2):  # the folder as if the run was killed after this epoch
        cut = tmp_path / f"cut{epoch}"
        shutil.copytree(first, cut)
        for name in ("result.json", "predictions.npz"):
            (cut / name).unlink()
        for folder in (path for path in cut.iterdir() if (path / "checkpoint").is_file()):
            for later in range(epoch + 1, 4):
                (folder / f"model.pth.tar-{later}").unlink()
            (folder / "checkpoint").write_text(f"model.pth.tar-{epoch}\n")
        assert run(*options, trainer=trainer, output=cut)[0] == 0
        compared = dict(repeat.compare(first, cut))
        assert all(compared.values()), compared
        assert "predictions.npz" in compared
