"""Weights load from every format, and the towers then equal those of open_clip and transformers."""

import copy
import json

import open_clip
import pytest
import torch
from conftest import relative
from open_clip.model import CLIP as OpenCLIP
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from clip import clip, convert
from clip.loading import load_clip, read_weights
from clip.model import CLIP, cast_towers, convert_weights, from_state_dict

IDS = clip.tokenize(["a photo of a face.", "a photo of a grand piano, in a very long sentence.", "x"])
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 3}
VIT = {"image_size": 32, "layers": 3, "width": 192, "patch_size": 16, "head_width": 64}


def reference(vision: dict, quick_gelu: bool) -> OpenCLIP:
    """open_clip's own model with random weights, including norms and biases."""
    torch.manual_seed(0)
    model = OpenCLIP(64, vision, TEXT, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.1)
    return model


REFERENCES = {
    "vit_quickgelu": (VIT, True),
    "vit_gelu": (VIT, False),
    "resnet": ({"image_size": 64, "layers": [1, 2, 1, 1], "width": 64, "head_width": 64}, True),
}


def openclip_config(monkeypatch, name: str) -> str:
    """Register the reference's architecture with open_clip, and return its name."""
    vision, quick_gelu = REFERENCES[name]
    config = {"embed_dim": 64, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": TEXT}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"test-{name}", config)
    return f"test-{name}"


def assert_same_features(model: CLIP, theirs: OpenCLIP, tolerance: float = 1e-5):
    images = torch.randn(3, 3, model.visual.input_resolution, model.visual.input_resolution)
    with torch.no_grad():
        assert relative(model.encode_image(images), theirs.encode_image(images)) < tolerance
        assert relative(model.encode_text(IDS), theirs.encode_text(IDS)) < tolerance


@pytest.mark.parametrize("name", REFERENCES)
def test_towers_equal_open_clips(name, tmp_path, monkeypatch):
    theirs = reference(*REFERENCES[name])
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    assert_same_features(load_clip(openclip_config(monkeypatch, name), tmp_path / "weights.pt"), theirs)


@pytest.mark.filterwarnings("ignore")  # tracing warns about every `if` in open_clip
@pytest.mark.parametrize("name", ["vit_quickgelu", "resnet"])
def test_towers_equal_open_clips_after_a_torchscript_archive(name, tmp_path):
    theirs = reference(*REFERENCES[name])
    path = tmp_path / "archive.pt"
    archived = copy.deepcopy(theirs)
    size = archived.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    traced = torch.jit.trace(archived, (torch.randn(1, 3, size, size), IDS[:1]), check_trace=False)
    torch.jit.save(traced, path)
    assert_same_features(load_clip("ViT-B/16", path), theirs)  # the path overrides the name


def test_towers_equal_transformers(tmp_path):
    for activation in ("quick_gelu", "gelu"):
        text = {"hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 512}
        vision = {"hidden_size": 192, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 768}
        vision |= {"image_size": 32, "patch_size": 16}
        torch.manual_seed(0)
        theirs = CLIPModel(
            CLIPConfig(
                text_config=text | {"hidden_act": activation},
                vision_config=vision | {"hidden_act": activation},
                projection_dim=64,
            )
        ).eval()
        theirs.save_pretrained(tmp_path / activation)
        model = load_clip("", tmp_path / activation)
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            outputs = theirs(input_ids=IDS, pixel_values=images)
            ours = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
            assert relative(ours, outputs.image_embeds) < 1e-5
            ours = torch.nn.functional.normalize(model.encode_text(IDS), dim=-1)
            assert relative(ours, outputs.text_embeds) < 1e-5
        assert model.sizes.activation == activation


def test_a_hub_folder_of_open_clip_loads(tmp_path):
    theirs = reference(*REFERENCES["vit_gelu"])
    config = {
        "model_cfg": {"embed_dim": 64, "vision_cfg": VIT, "text_cfg": TEXT},
        "preprocess_cfg": {"mean": [0.5] * 3},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    model = load_clip("", tmp_path)
    assert_same_features(model, theirs)
    assert model.sizes.mean == (0.5, 0.5, 0.5)


def test_half_precision_files_load_as_float32(tiny_weights, tmp_path):
    halves = {name: w.half() if w.is_floating_point() else w for name, w in tiny_weights.items()}
    archive_keys = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    torch.save(halves | archive_keys, tmp_path / "half.pt")
    model = load_clip("", tmp_path / "half.pt")
    assert model.dtype == torch.float32
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(model.visual.proj, halves["visual.proj"].float())


@pytest.mark.parametrize(
    ("node", "key", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("vision_cfg", "pool_type", "avg"),
        ("text_cfg", "hf_model_name", "roberta"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "vocab_size", 32000),
    ],
)
def test_other_towers_are_refused_with_the_reason(node, key, value, monkeypatch, tmp_path):
    config = {"embed_dim": 64, "vision_cfg": dict(VIT), "text_cfg": dict(TEXT)}
    config[node][key] = value
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "odd", config)
    (tmp_path / "w.pt").touch()
    with pytest.raises(ValueError, match=key):
        load_clip("odd", tmp_path / "w.pt")


def test_every_open_clip_model_is_supported_or_refused():
    supported, reasons = [], set()
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        try:
            convert.openclip_sizes(config, {}, config.get("quick_gelu", False))
            supported.append(name)
        except ValueError as error:
            reasons.add(str(error).split(": ")[1].split(" ")[0])
    assert reasons == {"only"}  # "only ... are supported": no other ValueError
    assert {"ViT-B-16", "ViT-L-14", "ViT-B-32-quickgelu", "RN50", "ViT-H-14"} <= set(supported)


def test_wrong_weights_are_refused_with_the_reason(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_clip("", tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(RuntimeError, match=r"text\.pt"):
        load_clip("", tmp_path / "text.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match=r"isn.t a CLIP in a known layout"):
        load_clip("", tmp_path / "other.pt")
    with pytest.raises(ValueError, match="ViT-B/16"):
        load_clip("ViT-B/17")
    with pytest.raises(ValueError, match="laion2b_s34b_b88k"):
        load_clip("ViT-B-16:no_such_tag")


def test_weights_run_no_code(tmp_path):
    class RunsCode:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"visual.proj": RunsCode()}, tmp_path / "code.pt")
    with pytest.raises(RuntimeError, match=r"code\.pt"):
        read_weights(tmp_path / "code.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cast", [convert_weights, cast_towers])
def test_bfloat16_towers_are_close_to_float32(cast, tiny_clip, tiny_weights):
    low = from_state_dict(tiny_weights)
    cast(low, torch.bfloat16)
    images = torch.randn(2, 3, 32, 32)
    assert relative(low.encode_image(images).float(), tiny_clip.encode_image(images)) < 0.05
    assert relative(low.encode_text(IDS).float(), tiny_clip.encode_text(IDS)) < 0.05
