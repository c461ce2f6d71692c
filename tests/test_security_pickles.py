"""Untrusted pickles and torch files are read as data: nothing is executed, no class is changed, nothing hangs."""

import contextlib
import io
import pickle
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch
from fuzzing import examples, limited, mutated
from hypothesis import given
from hypothesis import strategies as st

from clip.download import WeightsError
from clip.weights import read_weights
from dassl.data.datasets import Datum
from dassl.utils import InputError, load_checkpoint
from dassl.utils.unpickle import read_pickle
from untrusted import pickles, torch_files
from untrusted.pickles import Malformed, StandIn

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose file `marker` must never appear."""
    folder = tmp_path_factory.mktemp("pickles")
    yield folder
    assert not (folder / "marker").exists()


def archived(pickled: bytes, storage: bytes = bytes(16), **entries: bytes) -> bytes:
    """A file of torch.save whose pickle is `pickled`, with one storage."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {"data.pkl": pickled, "data/0": storage, "version": b"3\n"}.items():
            archive.writestr(f"archive/{name}", content)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}.pkl", content)
    return file.getvalue()


def read_all(path, content: bytes):
    """Read a file in every way in which the project reads it. Return what was read, or the errors' messages."""
    found = []
    for read, suffix in ((load_checkpoint, ".pth.tar"), (read_weights, ".pt"), (read_pickle, ".pkl")):
        file = path.with_suffix(suffix)
        file.write_bytes(content)
        try:
            with limited():
                found.append(read(file))
        except (InputError, WeightsError, Malformed) as error:
            found.append(str(error))
    assert not any("\n" in each for each in found if isinstance(each, str))  # an error is one line
    return found


# ---- each attack ----


def attacks(marker: str) -> dict[str, bytes]:
    """Pickles that would do harm, by their attack."""
    write = b"cbuiltins\nopen\n(V" + marker.encode() + b"\nVw\ntR"
    return {
        "call": b"}Vkey\n" + write + b"s.",
        "call by instance": b"(V" + marker.encode() + b"\nVw\nibuiltins\nopen\n.",
        "call by object": b"(cbuiltins\nopen\nV" + marker.encode() + b"\nVw\no.",
        "new object": b"cbuiltins\nopen\nV" + marker.encode() + b"\nVw\n\x86\x81.",
        "attribute of a class": b"cdassl.data.datasets.base_dataset\nDatum\n}Vlabel\nI0\nsb}.",
        "flag of a module class": b"ctorch.nn.modules.linear\nLinear\n}Vdump_patches\nI01\nsb}.",
        "attribute of a function": b"ctorch._utils\n_rebuild_tensor_v2\n}Vx\nI0\nsb}.",
        "module with its source": b"(Vmodule\nctorch.nn.modules.linear\nLinear\nV"
        + marker.encode()
        + b"\nVsource\ntQ.",
        "extension": b"\x82\x01.",
        "nested keys": b"}" + b")" + b"2\x86" * 60 + b"Nsq\x00.",
        "nested lists": b"]" + b"2\x86" * 60 + b".",
        "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
        "equal hashes": b"}(" + b"".join(pickle.dumps(n * (2**61 - 1), 2)[2:-1] + b"N" for n in range(50_000)) + b"u.",
        "huge number": b"\x8b\x00\x00\x00\x40" + bytes(2**20) + b".",
        "huge text": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
        "endless": b"N0" * 2_000_000 + b"N.",
        "reduced set": b"cbuiltins\nset\n(]" + b"]a\x85R.",
        "number of bytes": b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    }


@pytest.mark.parametrize("attack", attacks(""))
def test_an_attack_does_nothing(attack, folder, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_STEPS", 300_000)  # to save time
    before = dict(vars(Datum)), dict(vars(torch.nn.Linear))
    pickled = attacks(str(folder / "marker"))[attack]
    for content in (pickled, archived(pickled), MAGIC + pickled + pickle.dumps([], 2)):
        read_all(folder / "attack", content)
    assert (dict(vars(Datum)), dict(vars(torch.nn.Linear))) == before
    assert not (folder / "marker").exists()


def test_few_shot_lists_keep_their_images_and_nothing_else(folder):
    item = Datum.__new__(Datum)
    vars(item).update(_impath="a/1.jpg", _label=1, _domain=0, _classname="a")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = folder / "shots.pkl"
        path.write_bytes(pickle.dumps({"train": [item, item], "val": [item]}, protocol))
        assert read_pickle(path) == {"train": [["a/1.jpg", 1, "a"]] * 2, "val": [["a/1.jpg", 1, "a"]]}
    path.write_bytes(pickle.dumps({"train": [torch.nn.ReLU()]}))
    with pytest.raises(Malformed, match=r"object of torch\.nn\.modules\.activation\.ReLU"):
        read_pickle(path)


# ---- what must still load ----


@pytest.mark.parametrize("zipped", [True, False])
def test_every_content_of_a_checkpoint_is_read_as_torch_reads_it(zipped, folder):
    base = torch.arange(24.0)
    tensors = {str(dtype): torch.tensor([[0, 1], [1, 0]]).to(dtype) for dtype in torch_files._DTYPES.values()}
    tensors |= {"view": base[2:14].view(3, 4).t(), "empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}
    content = {
        "state_dict": OrderedDict(tensors | {"parameter": torch.nn.Parameter(base)}),
        "epoch": 3,
        "rest": [None, True, 1e-5, "ä", b"\x00\xff", (1, (2,)), {1, 2}, 2**70, -1, {"a": {2: "b"}}],
        "milestones": Counter({3: 1}),
        "size": base.shape,
    }
    torch.save(content, folder / "c.pt", _use_new_zipfile_serialization=zipped)
    read = torch_files.read(folder / "c.pt")
    theirs = torch.load(folder / "c.pt", weights_only=False)  # True refuses bytes in PyTorch 2.4
    assert type(read["milestones"]) is Counter
    assert {key: read[key] for key in ("epoch", "rest", "milestones", "size")} == {
        key: theirs[key] for key in ("epoch", "rest", "milestones", "size")
    }
    for name, tensor in theirs["state_dict"].items():
        ours = read["state_dict"][name]
        assert (ours.dtype, ours.shape, ours.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
        assert torch.equal(ours, tensor)
    assert read["state_dict"]["view"].data_ptr() == read["state_dict"]["parameter"].data_ptr() + 8


def test_optimizers_and_schedules_are_read(folder):
    model = torch.nn.Linear(2, 1)
    for cls in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = cls(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).backward()
        optimizer.step()
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
        torch.save({"o": optimizer.state_dict(), "s": schedule.state_dict(), "object": schedule}, folder / "o.pt")
        content = load_checkpoint(folder / "o.pt")
        optimizer.load_state_dict(content["o"])
        schedule.load_state_dict(content["s"])
        assert isinstance(content["object"], StandIn)


# ---- generated files ----

NAMES = [
    b"os\nsystem\n",
    b"builtins\nopen\n",
    b"builtins\neval\n",
    b"torch\nFloatStorage\n",
    b"torch._utils\n_rebuild_tensor_v2\n",
]
NAMES += [
    b"collections\nOrderedDict\n",
    b"dassl.data.datasets.base_dataset\nDatum\n",
    b"torch.nn.modules.linear\nLinear\n",
]
STEPS = st.one_of(
    st.sampled_from(
        [bytes([code]) for code in b"()]}t0122acdlbsueoRQN\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"]
    ),
    st.sampled_from([b"c" + name for name in NAMES] + [b"i" + name for name in NAMES]),
    st.builds(lambda n: b"K" + bytes([n]), st.integers(0, 255)),
    st.builds(lambda n: b"h" + bytes([n]), st.integers(0, 4)),
    st.builds(lambda n: b"q" + bytes([n]), st.integers(0, 4)),
    st.builds(
        lambda text: b"V" + text.encode() + b"\n", st.sampled_from(["storage", "module", "0", "cpu", "label", "x"])
    ),
    st.builds(lambda n: b"\x8a" + bytes([len(n)]) + n, st.binary(max_size=20)),
)
PROGRAMS = st.lists(STEPS, max_size=40).map(lambda steps: b"".join(steps) + b".")


@st.composite
def files(draw):
    """A file that may be a checkpoint, weights or a list of images."""
    tensor = {"state_dict": {"ctx": torch.arange(4.0)}, "epoch": 1, "x": [1, "a", (2.5, None)]}
    saved = io.BytesIO()
    torch.save(tensor, saved, _use_new_zipfile_serialization=draw(st.booleans()))
    program = draw(PROGRAMS)
    good = draw(st.sampled_from([saved.getvalue(), archived(program), archived(program, constants=b"N.")]))
    return draw(st.sampled_from([program, archived(program), MAGIC + program, good]) | mutated(good))


@given(content=files())
@examples(40, 300)
def test_no_file_executes_or_hangs(content, folder):
    read_all(folder / "generated", content)
    assert set(vars(Datum)) >= {"label", "impath"}
    assert isinstance(vars(Datum)["label"], property)


@given(program=st.lists(STEPS, max_size=60))
@examples(100, 5000)
def test_no_pickle_needs_more_than_the_reader(program):
    with limited(), contextlib.suppress(Malformed):
        pickles.load(io.BytesIO(b"".join(program) + b"."))
