"""Untrusted weights: archives run no code, wrong folders and files are one error, and nothing hangs."""

import copy
import io
import json

import pytest
import torch
from conftest import TINY
from fuzzing import examples, limited, mutated
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from clip import download, weights
from clip.clip import tokenize
from clip.download import WeightsError
from clip.loading import load_clip, local_file
from clip.model import CLIP, build_model, from_state_dict
from clip.sizes import VOCABULARY, Sizes

EXPECTED = (ValueError, WeightsError, FileNotFoundError)  # what `load_clip` may raise


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """An archive of a small CLIP, and its state dict."""
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.a = torch.nn.Sequential(torch.nn.Linear(2, 3).half(), torch.nn.BatchNorm1d(3))
    module.p = torch.nn.Parameter(torch.randn(4))
    module.register_buffer("size", torch.tensor(224))
    path = tmp_path_factory.mktemp("archive") / "archive.pt"
    torch.jit.save(torch.jit.script(module), path)
    return path, module.state_dict()


def test_an_archive_is_read_without_its_code(scripted, monkeypatch):
    path, expected = scripted
    monkeypatch.setattr(torch.jit, "load", None)  # would fail if it were called
    read = weights.read_weights(path)
    assert set(read) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype  # noqa: PT018


def test_only_an_official_archive_is_opened_by_torch(scripted, monkeypatch):
    path, _ = scripted
    called = []
    original = torch.jit.load
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: called.append(1) or original(*args, **kwargs))
    weights.read_weights(path)
    assert not called
    monkeypatch.setattr(weights, "OFFICIAL", {download.sha256(path)})
    weights.read_weights(path)
    assert called
    assert len(download.OFFICIAL) == 9
    assert all(len(sha) == 64 for sha in download.OFFICIAL)


class Writes(torch.nn.Module):
    """A module whose archive writes a file and never ends, if torch loads it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight = state[0]
        torch.save(torch.ones(1), "marker")
        while True:
            self.training = state[1]


def test_set_state_of_an_archive_is_not_executed(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.script(Writes()), tmp_path / "crafted.pt")
    monkeypatch.chdir(tmp_path)
    with limited(), pytest.raises(WeightsError, match="isn't a CLIP"):
        load_clip("", tmp_path / "crafted.pt")
    assert not (tmp_path / "marker").exists()


def test_weights_that_are_not_finite_are_refused(tiny_weights):
    for value in (torch.nan, torch.inf):
        broken = dict(tiny_weights) | {"visual.proj": tiny_weights["visual.proj"].clone()}
        broken["visual.proj"][0, 0] = value
        with pytest.raises(RuntimeError, match=r"visual\.proj has values that aren't finite"):
            from_state_dict(broken)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vision_layers", 0, "0 layers"),
        ("transformer_layers", 10**5, "100000 layers"),
        ("transformer_heads", 3, "3 heads don't divide"),
        ("vision_patch_size", 64, "smaller than a patch"),
        ("embed_dim", -1, "embed_dim is -1"),
    ],
)
def test_sizes_out_of_range_are_refused(field, value, message, tiny_weights):
    sizes = vars(Sizes.from_state_dict(tiny_weights))
    with pytest.raises(ValueError, match=message):
        Sizes(**sizes | {field: value})


def test_weights_are_found_through_the_plain_surface(tiny_weights, tiny_path, tmp_path):
    for path in (tiny_path, tmp_path / "tiny.safetensors"):
        if path != tiny_path:
            save_file(tiny_weights, path)
        with download.replaced("ViT-B/16", path):
            file = local_file(download.MODELS["ViT-B/16"], tmp_path / "cache")
            assert load_clip("ViT-B/16").visual.input_resolution == TINY["image_resolution"]
        assert download.MODELS["ViT-B/16"].startswith("https")
        with pytest.raises(RuntimeError):
            torch.jit.load(file)  # so their loader calls torch.load
        assert build_model(torch.load(file)).visual.output_dim == TINY["embed_dim"]
        assert local_file(str(path), tmp_path / "cache") == file


def test_a_model_that_build_model_would_change_is_refused_by_the_plain_surface(folder_parts, tmp_path):
    write_folder(tmp_path, *folder_parts)
    assert load_clip("", tmp_path).sizes.activation == "gelu"
    with pytest.raises(WeightsError, match="another activation"):
        local_file(str(tmp_path), tmp_path / "cache")


# ---- folders ----


@pytest.fixture(scope="module")
def folder_parts():
    """Config and tensors of a small Hugging Face model, half precision."""
    tower = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8}
    config = {
        "model_type": "clip",
        "projection_dim": 8,
        "text_config": tower | {"max_position_embeddings": 77, "vocab_size": VOCABULARY, "hidden_act": "gelu"},
        "vision_config": tower | {"image_size": 16, "patch_size": 8, "hidden_act": "gelu"},
    }
    torch.manual_seed(0)
    sizes = Sizes(8, 16, 1, 64, 8, 1, 8, 77, VOCABULARY, 64, 1, 1, 8, "gelu")
    return config, theirs({name: tensor.detach().half() for name, tensor in CLIP(sizes).state_dict().items()})


def theirs(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename OpenAI's parameter names to Hugging Face's."""
    renamed = {}
    for name, tensor in state.items():
        tower = "vision_model" if name.startswith("visual") else "text_model"
        name = name.removeprefix("visual.").replace("transformer.resblocks.", f"{tower}.encoder.layers.")
        for ours, new in (
            (".attn.out_proj.", ".self_attn.out_proj."), (".mlp.c_fc.", ".mlp.fc1."), (".mlp.c_proj.", ".mlp.fc2."),
            (".ln_1.", ".layer_norm1."), (".ln_2.", ".layer_norm2."), ("ln_final.", "text_model.final_layer_norm."),
            ("ln_pre.", "vision_model.pre_layrnorm."), ("ln_post.", "vision_model.post_layernorm."),
            ("conv1.", "vision_model.embeddings.patch_embedding."),
            ("class_embedding", "vision_model.embeddings.class_embedding"),
            ("token_embedding.", "text_model.embeddings.token_embedding."),
            ("positional_embedding", f"{tower}.embeddings.position_embedding.weight"),
        ):  # fmt: skip
            name = name.replace(ours, new) if new not in name else name
        if name.endswith("in_proj_weight") or name.endswith("in_proj_bias"):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = piece.contiguous()
        elif name in ("text_projection", "proj"):
            renamed[{"proj": "visual_projection.weight"}.get(name, "text_projection.weight")] = tensor.t().contiguous()
        else:
            renamed[name] = tensor
    return renamed


def write_folder(folder, config: object, tensors: dict[str, torch.Tensor] | bytes) -> None:
    (folder / "config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    content = tensors if isinstance(tensors, bytes) else save(tensors)
    (folder / "model.safetensors").write_bytes(content)


ODD = st.sampled_from(
    [None, [], {}, "", "x", True, 0, -1, 1.5, 10**5, 2**31, 10**40, 1e308, [1, 2], {"a": {}}, "quick_gelu"]
)


@st.composite
def odd_configs(draw, config: dict) -> object:
    """A config with some odd values, or with odd bytes."""
    changed = copy.deepcopy(config)
    for _ in range(draw(st.integers(0, 3))):
        node = draw(st.sampled_from([changed, changed.get("vision_config"), changed.get("text_config")]))
        if isinstance(node, dict) and node:
            key = draw(st.sampled_from(sorted(node)))
            if draw(st.booleans()):
                node[key] = draw(ODD)
            else:
                del node[key]
    text = json.dumps(changed).encode()
    return draw(st.sampled_from([changed, draw(ODD), b"[" * 100_000, text.decode().encode("utf-16")]) | mutated(text))


@st.composite
def odd_tensors(draw, tensors: dict[str, torch.Tensor]) -> object:
    """Tensors of which some are missing, are renamed, have another shape or type, or aren't finite; or odd bytes."""
    changed = dict(tensors)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(changed)))
        tensor = changed.pop(name)
        kind = draw(st.sampled_from(["missing", "name", "shape", "type", "nan", "empty", "flat"]))
        if kind == "name":
            changed[f"x.{name}"] = tensor
        elif kind == "nan":
            changed[name] = torch.full_like(tensor, torch.nan)
        elif kind != "missing":
            rows = tensor.reshape(1) if not tensor.ndim else tensor
            other = {"shape": rows[:1], "type": rows.long(), "empty": rows[:0], "flat": rows.flatten()}
            changed[name] = other[kind].contiguous()
    header = save({"a": torch.zeros(2)})
    return draw(st.sampled_from([changed, tensors]) | mutated(header))


@given(data=st.data())
@examples(12, 100)
def test_a_folder_is_a_model_or_one_error(data, folder_parts, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "odd_folder"
    folder.mkdir(exist_ok=True)
    config, tensors = folder_parts
    if data.draw(st.booleans()):
        config = data.draw(odd_configs(config))
    else:
        tensors = data.draw(odd_tensors(tensors))
    write_folder(folder, config, tensors)
    preprocess = data.draw(
        st.sampled_from([{}, None, {"image_mean": [0.5] * 3}, {"image_mean": "x"}, {"image_std": []}])
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess))
    with limited():
        try:
            model = load_clip("", folder)
        except EXPECTED as error:
            message = str(error)
        else:
            message = "ok"
            size = model.visual.input_resolution
            assert torch.isfinite(model.encode_image(torch.zeros(1, 3, size, size))).all()
            assert torch.isfinite(model.encode_text(tokenize("a cat", model.context_length))).all()
    assert "\n" not in message
    assert len(message) < 1000


@given(data=st.data())
@examples(12, 100)
def test_an_openclip_folder_is_a_model_or_one_error(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "odd_openclip"
    folder.mkdir(exist_ok=True)
    vision = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8, "mlp_ratio": 1.0}
    text = {"context_length": 77, "vocab_size": VOCABULARY, "width": 64, "heads": 1, "layers": 1}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    for _ in range(data.draw(st.integers(0, 3))):
        node = data.draw(st.sampled_from([config, config.get("model_cfg"), vision, text]))
        if isinstance(node, dict) and node:
            node[data.draw(st.sampled_from([*sorted(node), "pool_type"]))] = data.draw(ODD)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_model.safetensors").write_bytes(save({"visual.proj": torch.zeros(64, 8)}))
    with limited():
        try:
            load_clip("", folder)
        except EXPECTED as error:
            message = str(error)
    assert "\n" not in message


@given(data=st.data())
@examples(10, 100)
def test_a_file_is_a_model_or_one_error(data, tmp_path_factory):
    """State dicts with odd shapes and names, from which the sizes are inferred."""
    sizes = Sizes(8, 16, 1, 64, 8, 1, 8, 77, VOCABULARY, 64, 1, 1, 8)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in CLIP(sizes).state_dict().items()}
    odd = [(), (0,), (1,), (3, 3), (1, 1, 1, 1), (64, 3, 0, 0), (2, 0)]
    state = {name: torch.zeros(shape) for name, shape in shapes.items() if name != "token_embedding.weight"}
    for _ in range(data.draw(st.integers(1, 3))):
        state[data.draw(st.sampled_from(sorted(state)))] = torch.zeros(data.draw(st.sampled_from(odd)))
    state["token_embedding.weight"] = torch.zeros(VOCABULARY if data.draw(st.booleans()) else 7, 64)
    if data.draw(st.booleans()):
        state["token_rows"] = data.draw(st.sampled_from([torch.zeros(2), torch.tensor([5]), torch.tensor([-1] * 7)]))
    saved = io.BytesIO()
    torch.save(state, saved)
    path = tmp_path_factory.getbasetemp() / "odd.pt"
    path.write_bytes(saved.getvalue())
    with limited():
        try:
            load_clip("", path)
        except EXPECTED as error:
            assert "\n" not in str(error)  # noqa: PT017  # a model may also be loaded
