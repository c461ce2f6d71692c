"""What the tests of trainers share: each registered prompt trainer, built around a tiny CLIP."""

import importlib
import sys

import pytest
import torch
from conftest import TINY, layers_of, node_of

from dassl.config import merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_plugins
from trainers.base import Batch, PromptTrainer, total
from trainers.common.options import default_config

load_plugins("trainers")
TRAINERS = {
    name: kind
    for name, kind in ((name, TRAINER_REGISTRY.get(name)) for name in TRAINER_REGISTRY.registered_names())
    if issubclass(kind, PromptTrainer)
}
#: The toy methods in tests/plugins: trainer -> module.
PLUGINS = {
    "ShortPrompt": "short_prompt",
    "TaughtPrompt": "taught_prompt",
    "TowerAdapter": "tower_adapter",
    "FeatureCache": "feature_cache",
}
NAMES = ["red_thing", "green thing", "a rather long name of a thing", "x"]


def register_plugins(monkeypatch):
    """Register the trainers of `PLUGINS` for one test alone."""
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", dict(TRAINER_REGISTRY._objects))
    for name in PLUGINS.values():
        sys.modules.pop(f"plugins.{name}", None)
        importlib.import_module(f"plugins.{name}")


def config(trainer, *words):
    """Defaults with the prompts no deeper than a tiny tower."""
    cfg = default_config()
    node = cfg.TRAINER[node_of(trainer)]
    for key in node:
        if "DEPTH" in key:
            node[key] = min(node[key], TINY["vision_layers"])
    chosen = {f"TRAINER.{node_of(trainer)}.{key}": value for key, value in layers_of(3).items() if key in node}
    merge_words(cfg, [word for pair in chosen.items() for word in pair])
    merge_words(cfg, ["TRAINER.NAME", trainer, *words])
    return cfg


def make(trainer, clip_model, *words, names=NAMES):
    torch.manual_seed(0)
    return build(trainer, config(trainer, *words), clip_model, names)


def build(trainer, cfg, clip_model, names=NAMES):
    """The method; one for several tasks gets the names as a single task."""
    cls = TRAINERS[trainer]
    return cls.build_method(cfg, clip_model, cls.from_names(names), "a photo of a {}.")


def loss(model, images, labels):
    batch = Batch(images, labels)
    return total(model.losses(model.outputs(batch), batch))


each_trainer = pytest.mark.parametrize("trainer", TRAINERS)
