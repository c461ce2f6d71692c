"""Pretraining of ViT-Mini/8 (tools/pretrain): training, folding, saving, and reading icon packages."""

import io
import json
import tarfile

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from clip import mini
from datasets import scenes
from tools.pretrain import pretrain
from tools.pretrain.packages import Icons


@pytest.fixture
def untrained() -> tuple[pretrain.Pretraining, pretrain.Captions, pretrain.Batches]:
    """A model with random weights, captions, and batches of 60 classes."""
    classes = scenes.read_drawings()["classes"][:60]
    captions = pretrain.Captions(classes)
    torch.manual_seed(0)
    model = pretrain.Pretraining(len(classes), len(captions.rows))
    drawings = [[scenes.rasterise(entry["drawings"]["twemoji"])] for entry in classes]
    return model, captions, pretrain.Batches(drawings, 2)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon needs torch 2.9")
@pytest.mark.usefixtures("deterministic")
def test_pretraining_is_deterministic_and_learns(untrained):
    model, captions, batches = untrained
    start = {name: value.clone() for name, value in model.state_dict().items()}
    final_states = []
    for _ in range(2):
        model.load_state_dict(start)
        torch.manual_seed(1)
        pretrain.train(model, DataLoader(batches, batch_size=None), captions, 2, lambda clip: None, looks=1)
        final_states.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(final_states[0][name], final_states[1][name]) for name in start)
    assert any((final_states[0][name] != start[name]).any() for name in start)


def test_normalisation_is_folded_into_the_weights_exactly(untrained):
    model, _, batches = untrained
    mean, variance = pretrain.output_statistics(model.clip, DataLoader(batches, batch_size=None))
    clip = pretrain.folded(model.clip, mean, variance)
    images = pretrain.to_input(torch.from_numpy(batches[0][1]))
    with torch.no_grad():
        raw = model.clip.encode_image(images).double()
        expected = F.normalize((raw - mean) / (variance + 1e-5).sqrt(), dim=-1)
        assert (F.normalize(clip.encode_image(images).double(), dim=-1) - expected).abs().max() < 1e-4


def test_saved_weights_equal_the_trained_ones_in_half_precision(untrained, tmp_path):
    model, captions, _ = untrained
    mini.save(model.clip.state_dict(), captions.rows, tmp_path / "weights.safetensors")
    state, known = mini.load(path=tmp_path / "weights.safetensors")
    assert known.nonzero().flatten().tolist() == captions.rows.tolist()
    assert state["token_embedding.weight"].shape == (49408, 128)
    for name, value in model.clip.state_dict().items():
        loaded = state[name][known] if name == "token_embedding.weight" else state[name]
        assert torch.equal(loaded.half(), value.half())


def test_packages_read_icons_and_aliases(tmp_path):
    icons = {
        "icons": {"red-apple": {"body": "<path fill='currentColor'/>"}, "bigben": {"body": "b", "width": 4}},
        "aliases": {"apple": {"parent": "red-apple"}, "elppa": {"parent": "red-apple", "hFlip": True}},
        "height": 24,
    }
    with tarfile.open(tmp_path / "iconify-json-x-1.tgz", "w:gz") as tar:
        for name, content in {"icons": icons, "metadata": {"categories": {"Food": ["red-apple"]}}}.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = Icons(tmp_path / "iconify-json-x-1.tgz")
    assert "fill='#000'" in found.svg("apple")
    assert 'viewBox="0 0 4 24"' in found.svg("big-ben")  # other icon sets write names without hyphens
    assert found.svg("elppa") is None  # a mirrored icon is another drawing
    assert found.aliases("red-apple") == ["apple"]
    assert found.categories == {"Food": ["red-apple"]}
