"""The towers equal open_clip's and transformers'; the fast ways equal the plain one; weights load from every format."""

import copy
import hashlib
import http.server
import pickle
import threading

import open_clip
import pytest
import torch
from conftest import TINY, relative
from open_clip.model import CLIP as OpenCLIP

import clip as clip_package
from clip import clip
from clip.inputs import TowerInputs
from clip.loading import load_clip, read_weights
from clip.model import CLIP, build_model, convert_weights, from_state_dict
from clip.simple_tokenizer import SimpleTokenizer
from clip.text import Layout, Tokens

IDS = clip.tokenize(["a photo of a face.", "a photo of a grand piano, in a very long sentence.", "x"])
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 3}
VIT = {"image_size": 32, "layers": 3, "width": 192, "patch_size": 16, "head_width": 64}


def reference(vision: dict, quick_gelu: bool) -> OpenCLIP:
    """open_clip's own model with random weights, norms and biases included."""
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
    """Make open_clip know the reference's architecture by name."""
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


@pytest.mark.filterwarnings("ignore")  # tracing warns of every `if` of open_clip's
@pytest.mark.parametrize("name", ["vit_quickgelu", "resnet"])
def test_towers_equal_open_clips_after_a_torchscript_archive(name, tmp_path):
    theirs = reference(*REFERENCES[name])
    path = tmp_path / "archive.pt"
    archived = copy.deepcopy(theirs)
    size = archived.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    traced = torch.jit.trace(archived, (torch.randn(1, 3, size, size), IDS[:1]), check_trace=False)
    torch.jit.save(traced, path)
    assert_same_features(load_clip("ViT-B/16", path), theirs)  # a path goes before the name


def test_towers_equal_transformers(tmp_path):
    from transformers import CLIPConfig, CLIPModel

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
    import json

    from safetensors.torch import save_file

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


def test_every_pretrained_open_clip_model_is_taken_or_refused():
    from clip import convert

    taken, reasons = [], set()
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        try:
            convert.openclip_sizes(config, {}, config.get("quick_gelu", False))
            taken.append(name)
        except ValueError as error:
            reasons.add(str(error).split(": ")[1].split(" ")[0])
    assert reasons == {"only"}
    assert {"ViT-B-16", "ViT-L-14", "ViT-B-32-quickgelu", "RN50", "ViT-H-14"} <= set(taken)


def test_wrong_weights_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_clip("", tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(RuntimeError, match=r"text\.pt"):
        load_clip("", tmp_path / "text.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(RuntimeError, match="no CLIP in a known layout"):
        load_clip("", tmp_path / "other.pt")
    with pytest.raises(ValueError, match="ViT-B/16"):
        load_clip("ViT-B/17")
    with pytest.raises(ValueError, match="laion2b_s34b_b88k"):
        load_clip("ViT-B-16:no_such_tag")


def test_weights_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"visual.proj": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(RuntimeError, match=r"evil\.pt"):
        read_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


# ---- the fast ways ----


def random_prompts(model: CLIP, seed: int):
    """Random prefixes, own tokens of random lengths, deep prompts of a random depth."""
    g = torch.Generator().manual_seed(seed)

    def draw(high, low=1):
        return int(torch.randint(low, high, (), generator=g))

    groups, count, shared = draw(4), draw(6), draw(8)
    longest = 77 - shared if seed % 3 == 0 else 6
    lengths = torch.randint(1, longest + 1, (count,), generator=g)
    width = model.transformer.width
    group = torch.randint(0, groups, (count,), generator=g) if groups > 1 else None
    depth = draw(model.transformer.layers, 0) if shared > 1 else 0
    deep = []
    for _ in range(depth):
        shape = (draw(shared), width)
        deep.append(torch.randn(*((groups, *shape) if seed % 2 else shape), generator=g))
    prefix = torch.randn(groups, shared, width, generator=g)
    own = torch.randn(int(lengths.sum()), width, generator=g)
    tensors = [t.requires_grad_() for t in (prefix, own, *deep)]
    return tensors, lambda m: m.encode_prompts(
        prefix, own, Layout(lengths, group), TowerInputs(dict(enumerate(deep, 1)))
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_fast_text_tower_equals_the_plain_one(tiny_clip, tiny_weights, seed):
    plain = from_state_dict(tiny_weights)
    plain.transformer.resblocks[0].register_forward_hook(lambda *_: None)  # somebody's hook: the plain way
    tensors, encode = random_prompts(tiny_clip, seed)
    fast_features, plain_features = encode(tiny_clip), encode(plain)
    assert relative(fast_features, plain_features) < 1e-5
    weights = torch.randn_like(fast_features)
    fast = torch.autograd.grad((fast_features * weights).sum(), tensors, allow_unused=True)
    slow = torch.autograd.grad((plain_features * weights).sum(), tensors, allow_unused=True)
    for a, b in zip(fast, slow, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b.abs().max() > 0:
            assert relative(a, b) < 1e-5


def test_text_as_trainers_of_the_family_encode_it(tiny_clip):
    """The plain surface: token_embedding, positional_embedding, transformer over (length, batch, width), EOT."""
    x = tiny_clip.token_embedding(IDS).type(tiny_clip.dtype) + tiny_clip.positional_embedding.type(tiny_clip.dtype)
    x = tiny_clip.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    x = tiny_clip.ln_final(x).type(tiny_clip.dtype)
    x = x[torch.arange(len(x)), IDS.argmax(dim=-1)] @ tiny_clip.text_projection
    assert relative(tiny_clip.encode_text(IDS), x) < 1e-5


def test_the_image_tower_with_prompts_equals_its_plain_way(tiny_clip, tiny_weights):
    plain = from_state_dict(tiny_weights)
    plain.visual.transformer.resblocks[1].mlp.register_forward_hook(lambda *_: None)
    images = torch.randn(2, 3, 32, 32)
    for depth in range(4):
        prompts = [torch.randn(2, 192) for _ in range(depth)]
        assert (
            relative(
                tiny_clip.encode_image(images, TowerInputs(dict(enumerate(prompts)))),
                plain.encode_image(images, TowerInputs(dict(enumerate(prompts)))),
            )
            < 1e-5
        )


def test_an_adapter_is_never_passed_by(tiny_clip):
    """Somebody replaces a submodule: the towers must go through it."""

    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs) * 2

    images, before = torch.randn(1, 3, 32, 32), tiny_clip.encode_text(IDS)
    image_before = tiny_clip.encode_image(images)
    tiny_clip.transformer.resblocks[1].mlp = Doubled(tiny_clip.transformer.resblocks[1].mlp)
    tiny_clip.visual.transformer.resblocks[0].ln_2 = Doubled(tiny_clip.visual.transformer.resblocks[0].ln_2)
    assert relative(tiny_clip.encode_text(IDS), before) > 1e-3
    assert relative(tiny_clip.encode_image(images), image_before) > 1e-3


def test_prompts_are_cut_where_they_differ():
    tokens = Tokens.cut(clip.tokenize(["a photo of a cat.", "a photo of a catfish."]))
    assert tokens.prefix.tolist() == clip.tokenize("a photo of a")[0, :5].tolist()
    assert tokens.layout.lengths.tolist() == [3, 4] or tokens.layout.lengths.tolist() == [3, 3]
    one = Tokens.cut(clip.tokenize(["a cat."]))
    assert len(one.class_tokens) == 1  # one class: all but EOT is shared


def test_too_many_prompts_are_refused(tiny_clip):
    layout = Layout(torch.tensor([1]))
    own, prompt = torch.randn(1, 128), torch.randn(2, 128)
    with pytest.raises(ValueError, match="tower has layers 0 to 2"):
        tiny_clip.encode_prompts(torch.randn(1, 5, 128), own, layout, TowerInputs(dict(enumerate([prompt] * 3, 1))))
    with pytest.raises(ValueError, match="too short"):
        tiny_clip.encode_prompts(torch.randn(1, 2, 128), own, layout, TowerInputs({1: prompt}))


# ---- OpenAI's surface ----


def test_surface(tiny_path, tiny_weights):
    assert "ViT-B/16" in clip_package.available_models()
    assert set(clip._MODELS) == set(clip_package.available_models())
    model, preprocess = clip_package.load(str(tiny_path), device="cpu")
    assert model.dtype == torch.float32
    assert model.visual.input_resolution == 32
    assert model.visual.output_dim == 64
    assert pickle.loads(pickle.dumps(preprocess)) is not None
    images = torch.randn(2, 3, 32, 32)
    per_image, per_text = model(images, IDS)
    assert per_image.shape == (2, 3)
    assert torch.equal(per_image, per_text.t())
    with pytest.raises(RuntimeError, match="RN50"):
        clip.load("no such model")
    half = build_model(dict(tiny_weights))
    assert half.dtype == torch.float16
    assert half.token_embedding.weight.dtype == half.ln_final.weight.dtype == torch.float32
    assert half.transformer.resblocks[0].attn.in_proj_weight.dtype == half.text_projection.dtype == torch.float16
    again = copy.deepcopy(half.float())
    assert relative(again.encode_text(IDS), model.encode_text(IDS)) < 1e-2
    with pytest.raises(TypeError, match="pass prompts to encode_image"):
        clip.build_model(dict(tiny_weights), {"trainer": "MaPLe"})


def test_bf16_towers_are_near(tiny_clip, tiny_weights):
    low = from_state_dict(tiny_weights)
    convert_weights(low, torch.bfloat16)
    images = torch.randn(2, 3, 32, 32)
    assert relative(low.encode_image(images).float(), tiny_clip.encode_image(images)) < 0.05
    assert relative(low.encode_text(IDS).float(), tiny_clip.encode_text(IDS)) < 0.05


def test_tokenizer():
    tokenizer = SimpleTokenizer()
    assert len(tokenizer.encoder) == len(tokenizer.decoder) == 49408
    assert tokenizer.encoder["<|startoftext|>"] == 49406
    assert tokenizer.decoder[49407] == "<|endoftext|>"
    texts = ["Hello  World!", "grand_piano", "it's 12 o'clock", "Ünï &amp; cödé", "a photo of a ferris wheel.", ""]
    assert torch.equal(clip.tokenize(texts), open_clip.tokenizer.tokenize(texts))
    assert tokenizer.encode("<|endoftext|> x")[0] == 49407
    assert tokenizer.decode(tokenizer.encode("hello world")).strip() == "hello world"
    with pytest.raises(RuntimeError, match="long"):
        clip.tokenize("long " * 80)
    assert clip.tokenize("long " * 80, truncate=True)[0, -1] == 49407


# ---- downloads, from a server on this machine ----


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_download_checks_the_sha256(server, tmp_path, tiny_path, monkeypatch):
    served, address = server
    content = tiny_path.read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    (served / sha).mkdir()
    (served / sha / "tiny.pt").write_bytes(content)
    url, cache = f"{address}/{sha}/tiny.pt", tmp_path / "cache"
    assert clip._download(url, cache) == str(cache / "tiny.pt")
    (served / sha / "tiny.pt").write_bytes(b"changed on the server")
    assert clip._download(url, cache) == str(cache / "tiny.pt")  # the right file is there: kept
    (cache / "tiny.pt").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="SHA-256"), pytest.raises(RuntimeError, match="invalid hash"):
        clip._download(url, cache)
    (served / sha / "tiny.pt").write_bytes(content)
    with pytest.warns(UserWarning, match="again"):
        clip._download(url, cache)
    monkeypatch.setitem(clip._MODELS, "tiny", url)
    assert load_clip("tiny", root=cache).visual.input_resolution == TINY["image_resolution"]
    with pytest.raises(RuntimeError, match=r"MODEL\.BACKBONE\.PATH"):
        clip._download(f"{address}/{sha}/gone.pt", cache)
    (cache / "folder.pt").mkdir()
    with pytest.raises(RuntimeError, match="not a regular file"):
        clip._download(f"{address}/{sha}/folder.pt", cache)
