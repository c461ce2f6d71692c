"""Generated config files and config values: each is used, or refused in one line."""

import itertools

import fuzz
import pytest
from conftest import ROOT, depth_words, node_of
from fuzz_inputs import WORDS, YAML_FILES, config_files, values
from hypothesis import strategies as st
from msgspec import inspect
from tiny_methods import TRAINERS

import train
from dassl.config import field_types, keys
from experiments import sweep
from trainers.common.options import default_config

#: Keys whose values change how many images are tested or how long a run takes, without being wrong.
_SKIPPED = {"USE_CUDA", "OUTPUT_DIR", "DATASET.ROOT", "TEST.NO_TEST"}


@pytest.fixture
def argv(tiny_path, own_data, tmp_path):
    """argv(trainer, *words) -> (arguments of a quick run in a new folder, this folder)."""
    numbers = itertools.count()

    def argv(trainer, *words):
        output = tmp_path / "out" / str(next(numbers))
        return [
            "--trainer", trainer, "--seed", "1", "--root", str(tmp_path), "--output-dir", str(output),
            "--dataset-config-file", str(ROOT / "configs/datasets/folder.yaml"),
            "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", "1",
            "DATASET.PATH", str(own_data), "DATASET.NUM_SHOTS", "2", "DATALOADER.NUM_WORKERS", "0",
            *depth_words(trainer, 2), *words,
        ], str(output)  # fmt: skip

    return argv


def all_keys():
    """Triples (trainer, key, default value) for all keys. The trainer reads the key."""
    trainer_of = {node_of(name): name for name in TRAINERS}
    triples = []
    for key, default in keys(default_config()):
        node = key.split(".")[1] if key.startswith("TRAINER.") and key.count(".") == 2 else ""
        if key not in _SKIPPED and (not node or node in trainer_of):
            triples.append((trainer_of[node] if node else "CoOp", key, default))
    return triples


def test_config_values(argv):
    def attempt(case):
        trainer, key, value = case
        arguments, output = argv(trainer, key, value)
        return fuzz.problem(train.main, arguments, output=output)

    fuzz.check(values(all_keys()), 25, 500, attempt)


def _whole_numbers(info):
    """Yield the descriptions of all whole numbers in a type, such as those of a tuple's items."""
    info = info.type if isinstance(info, inspect.Metadata) else info
    if isinstance(info, inspect.IntType):
        yield info
    for item in [info.item_type] if isinstance(info, inspect.VarTupleType | inspect.ListType) else []:
        yield from _whole_numbers(item)
    for item in info.item_types if isinstance(info, inspect.TupleType) else []:
        yield from _whole_numbers(item)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_whole_number_of_a_method_has_a_range(trainer):
    """Without a range, values such as -1 or 2**64 end in an error of PyTorch, or never end."""
    for name, kind in field_types(TRAINERS[trainer].options).items():
        for number in _whole_numbers(inspect.type_info(kind)):
            assert None not in (number.ge, number.le), name


def test_values_of_transforms(argv):
    """Values of INPUT.*, with a transform that uses the key."""
    users = {"GB": "gaussian_blur", "RGS": "randomgrayscale", "GN": "gaussian_noise", "CROP": "random_crop"}
    names = [key for key, _ in keys(default_config()) if key.startswith("INPUT.")]
    cases = st.tuples(st.sampled_from(names), st.sampled_from(WORDS[:40]), st.booleans())

    def attempt(case):
        key, value, used = case
        start = key.removeprefix("INPUT.").split("_")[0]
        transform = users.get(start, {"RRCROP": "random_resized_crop"}.get(start, start.lower()))
        known = {"cutout", "colorjitter", "randaugment", "random_resized_crop", *users.values()}
        chosen = transform if used and transform in known else "random_flip"
        arguments, output = argv("CoOp", "INPUT.TRANSFORMS", f"('{chosen}','normalize')", key, value)
        return fuzz.problem(train.main, arguments, output=output)

    fuzz.check(cases, 10, 100, attempt)


def test_config_files(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    valid = (ROOT / "configs/trainers/CoOp/rn50_ep50.yaml").read_text(encoding="utf-8")
    folder = (ROOT / "configs/datasets/folder.yaml").read_text(encoding="utf-8")
    known = [key for key, _ in keys(default_config()) if not key.startswith("TRAINER.") or "COOP" in key]
    file = tmp_path / "config.yaml"

    def attempt(case):
        file.write_bytes(case.content)
        if case.role == "--dataset-config-file" and b"NAME" not in case.content:
            file.write_bytes(folder.encode() + b"\n" + case.content)
        arguments, output = argv("CoOp", case.role, str(file))
        return fuzz.problem(train.main, arguments, case.ending, output)

    fuzz.check(config_files(f"{folder}\n{valid}", known), 25, 300, attempt)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("role", ["--config-file", "--dataset-config-file"])
def test_wrong_config_files(role, argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, must_fail in YAML_FILES:
        (tmp_path / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
        if must_fail:
            arguments, _ = argv("CoOp", role, str(tmp_path / "config.yaml"))
            assert fuzz.problem(train.main, arguments, "fails") == "", text
            assert fuzz.problem(sweep.main, [str(tmp_path / "config.yaml"), "--dry-run"], "fails") == "", text
    assert not (tmp_path / "marker").exists()
