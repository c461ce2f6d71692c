"""OpenAI's public functions, as third-party trainers use them: load, build_model, tokenize."""

import copy
import pickle

import open_clip
import pytest
import torch
from conftest import relative

import clip as clip_package
from clip import clip
from clip.model import build_model
from clip.simple_tokenizer import SimpleTokenizer

IDS = clip.tokenize(["a photo of a face.", "a photo of a grand piano, in a very long sentence.", "x"])


def test_models_load_by_name_and_path(tiny_path, tiny_weights):
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
    none = dict.fromkeys(("vision_depth", "language_depth", "vision_ctx", "language_ctx"), 0)
    assert clip.build_model(dict(tiny_weights), none | {"trainer": "CoOp"}).dtype == torch.float16


def test_the_text_tower_from_its_parts(tiny_clip):
    """Third-party trainers compute text features from the model's attributes, over (length, batch, width)."""
    x = tiny_clip.token_embedding(IDS).type(tiny_clip.dtype) + tiny_clip.positional_embedding.type(tiny_clip.dtype)
    x = tiny_clip.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    x = tiny_clip.ln_final(x).type(tiny_clip.dtype)
    x = x[torch.arange(len(x)), IDS.argmax(dim=-1)] @ tiny_clip.text_projection
    assert relative(tiny_clip.encode_text(IDS), x) < 1e-5


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
