"""Cut and flipped files of a run: the run recovers with a warning, or ends with one line. No result is ever wrong."""

import json
import random
import time
from collections import Counter

import pytest
from conftest import depth_words
from file_operations import contents, recorded, write

import parse_test_res
import train
from dassl.engine.trainer import SimpleTrainer
from experiments import repeat
from reporting.read import ReportError, read

TRAINER = "SoftCPT"  # saves three models


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
    """Yield a file's content, cut at `count` places and with `flips` changed bits."""
    for number in range(count):
        yield content[: len(content) * number // count]
    rng = random.Random(0)
    for _ in range(flips if content else 0):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(7)
        yield bytes(changed)


def check(name, content, files, finished, argv, folder, capsys):
    """Damage a file, repeat the command, and check that nothing is wrong without a message. Return what happened."""
    write(files, folder)
    time.sleep(0.01)  # a file that changes after the result is written is newer
    (folder / name).write_bytes(content)
    capsys.readouterr()
    code = train.main(argv)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) in ((0, 0), (1, 1), (2, 1)), err
    if code:
        assert (folder / name).read_bytes() == content  # an error changes nothing
        return "error"
    found = contents(folder)
    assert set(found) == set(finished)
    differing = {each for each in finished if found[each] != finished[each]} - {"result.json"}  # its time differs
    if "Finished already" in out and name in differing:  # the result doesn't depend on the file
        result = json.loads(finished["result.json"])
        assert name not in {*result["files"], *result["prompts"], "inputs.json"}
        assert differing == {name}
        return "not read"
    assert differing <= {"metrics.jsonl"}  # damaged lines are lost
    assert not differing or "Warning: " in out or "Not finished any more: " in out
    write(finished, folder.parent / "reference")
    same = dict(repeat.compare(folder.parent / "reference", folder))
    assert {each for each in same if not same[each]} == differing
    return "recovered"


def files_of(state, runs):
    """Yield (name, content) of a run's files, but of the checkpoints only those of one model."""
    for name, content in runs[state].items():
        if "/" not in name or name.startswith("prompt_gen/"):
            yield name, content


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_damaged_files_cause_no_wrong_result(state, runs, argv, folder, capsys):
    rng = random.Random(1)
    for name, content in files_of(state, runs):
        changed = rng.choice([*damaged(content, 3, 3)])
        check(name, changed, runs[state], runs["finished"], argv, folder, capsys)


@pytest.mark.long
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_files_cut_at_twenty_places_cause_no_wrong_result(state, runs, argv, folder, capsys):
    outcomes = Counter(
        check(name, changed, runs[state], runs["finished"], argv, folder, capsys)
        for name, content in files_of(state, runs)
        for changed in damaged(content, 20, 3)
    )
    assert outcomes["recovered"] > outcomes["error"]


def test_a_damaged_result_is_never_reported(runs, folder):
    true = repr(float(runs["finished"]["result.json"].partition(b'"accuracy": ')[2].partition(b",")[0]))
    for changed in damaged(runs["finished"]["result.json"], 5, 40):
        write(runs["finished"] | {"result.json": changed}, folder)
        try:
            values = parse_test_res.read_values(folder.parent, "accuracy")
        except ValueError:
            with pytest.raises(ReportError, match=r"result\.json"):
                read(folder)
        else:
            assert repr(values[folder / "result.json"]) == true
