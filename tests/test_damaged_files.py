"""Cut and flipped files of a run: the run recovers with a warning, or ends with one line. No result is ever wrong."""

import random
import shutil

import pytest
from conftest import depth_words
from file_operations import contents, recorded, write

import parse_test_res
import train
from dassl.engine.trainer import SimpleTrainer
from experiments import repeat
from reporting.read import ReportError, read

TRAINER = "SoftCPT"  # saves three models
#: Files whose damage changes nothing that a command reads or compares.
_UNREAD = ("inputs.json",)


@pytest.fixture(scope="module", autouse=True)
def _best_epoch_is_the_second():
    tested = SimpleTrainer.test

    def test(trainer, split=None):
        result = tested(trainer, split)
        return (0.1, 0.3, 0.2)[trainer.epoch] if split == "val" else result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimpleTrainer, "test", test)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "out"


@pytest.fixture(scope="module")
def argv(folder, tiny_path, own_data):
    return [
        "--trainer", TRAINER, "--seed", "1", "--output-dir", str(folder),
        "--dataset-config-file", "configs/datasets/folder.yaml", "DATASET.PATH", str(own_data),
        "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "DATASET.NUM_SHOTS", "1",
        "DATALOADER.NUM_WORKERS", "0", *depth_words(TRAINER, 2), "OPTIM.MAX_EPOCH", "3",
        "TEST.FINAL_MODEL", "best_val", "TEST.SAVE_PREDICTIONS", "True",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(argv, folder):
    """{"finished": files of the finished run, "stopped": its files after two of three epochs}."""
    with recorded(folder, folder.parent / "states"):
        assert train.main(argv) == 0
    early = [state for state in sorted((folder.parent / "states").iterdir()) if not any(state.rglob("*-3*"))]
    return {"finished": contents(folder), "stopped": contents(early[-1])}


def damaged(content, count, flips):
    """Yield (what, content) for `count` cuts of a file and `flips` changed bits."""
    for number in range(count):
        yield f"cut {number}", content[: len(content) * number // count]
    rng = random.Random(0)
    for number in range(flips if content else 0):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(7)
        yield f"flip {number}", bytes(changed)


def check(name, content, files, finished, argv, folder, capsys):
    """Damage a file, repeat the command, and check that nothing is wrong without a message."""
    write(files | {name: content}, folder)
    capsys.readouterr()
    code = train.main(argv)
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line and "it/s]" not in line and not line.startswith("\r")]
    if code:
        assert code in (1, 2)
        assert len(errors) == 1, errors
        assert errors[0].startswith("error: ")
        return
    found = contents(folder)
    prompts = [each for each in finished if ".tar" in each or each in ("predictions.npz", "fewshot.json")]
    assert [each for each in prompts if found.get(each) != finished[each]] == []
    write(finished, folder.parent / "reference")
    differing = [each for each, same in repeat.compare(folder.parent / "reference", folder) if not same]
    assert differing in ([], ["metrics.jsonl"])  # damaged lines are lost
    if differing:
        assert "Warning: " in out or "Not finished any more" in out
    assert "Finished already" in out or content == files[name] or "Warning" in out or "Not finished" in out or (
        found[name] == finished[name]
    )


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_damaged_files_cause_no_wrong_result(state, runs, argv, folder, capsys):
    for name, content in runs[state].items():
        if not name.startswith(("task_prompt_learner", "prompt_learner")):  # of three models, one
            for _, changed in damaged(content, 2, 1):
                check(name, changed, runs[state], runs["finished"], argv, folder, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_files_cut_at_twenty_places_cause_no_wrong_result(state, runs, argv, folder, capsys):
    for name, content in runs[state].items():
        for _, changed in damaged(content, 20, 3):
            check(name, changed, runs[state], runs["finished"], argv, folder, capsys)


def test_a_damaged_result_is_never_reported(runs, folder):
    for _, changed in damaged(runs["finished"]["result.json"], 5, 40):
        write(runs["finished"] | {"result.json": changed}, folder)
        true = runs["finished"]["result.json"]
        try:
            values = parse_test_res.read_values(folder.parent, "accuracy")
        except ValueError:
            with pytest.raises(ReportError, match=r"result\.json"):
                read(folder)
        else:
            shutil.copy(folder / "result.json", folder / "copy.json")
            assert b'"accuracy": %s' % repr(values[folder / "result.json"]).encode() in true
