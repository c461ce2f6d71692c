"""Fixtures: the golden CLIP, tiny data sets made on the spot, and runs of train.py in this process."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pretend_device
import pytest
import small_clip
import torch
from PIL import Image

import train
from clip.model import CLIP, from_state_dict
from clip.sizes import Sizes
from dassl.config import get_cfg_default, merge_words
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.emoji import EmojiScenes
from experiments.classes import TRAINERS
from trainers.common.options import default_config
from trainers.common.options import node_of as _node_of

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
#: A CLIP that is quick to run and has other widths than ViT-B's.
TINY = {
    "embed_dim": 64, "image_resolution": 32, "vision_layers": 3, "vision_width": 192, "vision_patch_size": 16,
    "transformer_width": 128, "transformer_heads": 2, "transformer_layers": 3,
}  # fmt: skip


def pytest_addoption(parser):
    text = "folder of golden cases; may be repeated (default: tests/golden and its subfolders)"
    parser.addoption("--golden-dir", action="append", type=Path, help=text)


@pytest.fixture(scope="session", autouse=True)
def _at_the_root():
    os.chdir(ROOT)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))


@pytest.fixture(scope="session", autouse=True)
def _pretend_device_exists():
    """PyTorch counts the devices at a process's first backward pass, so the pretend device is made before."""
    if pretend_device.is_supported():
        pretend_device.register()


@pytest.fixture(scope="session", autouse=True)
def _few_scenes(tmp_path_factory):
    """Emoji scenes are made once a session, few of each, and not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for kind in map(DATASET_REGISTRY.get, DATASET_REGISTRY.registered_names()):
            if issubclass(kind, EmojiScenes):
                patch.setattr(kind, "counts", dict.fromkeys(kind.counts, 2 if kind.category else 1))
        yield


@pytest.fixture(scope="session")
def tiny_weights() -> dict[str, torch.Tensor]:
    return small_clip.state_dict(**TINY)


@pytest.fixture
def tiny_clip(tiny_weights) -> CLIP:
    return from_state_dict(tiny_weights)


@pytest.fixture(scope="session")
def resnet_weights() -> dict[str, torch.Tensor]:
    """A ResNet CLIP of the smallest sizes that its layout allows."""
    torch.manual_seed(0)
    sizes = Sizes(64, 64, (1, 1, 1, 1), 16, 0, 8, 0, 77, 49408, 128, 2, 3, 512)
    return {name: tensor.detach() for name, tensor in CLIP(sizes).state_dict().items()}


@pytest.fixture(scope="session")
def tiny_path(tiny_weights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(tiny_weights, path)
    return path


def make_image(path: Path, color: tuple[int, int, int], seed: int) -> None:
    """A noisy image of 40 x 32 pixels around a colour."""
    noise = np.random.RandomState(seed).randint(-40, 40, (32, 40, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)).save(path)


COLORS = {"red_thing": (200, 40, 40), "green thing": (40, 200, 40), "blue": (40, 40, 200), "grey": (120, 120, 120)}


@pytest.fixture(scope="session")
def own_data(tmp_path_factory) -> Path:
    """Somebody's own data: four class folders of six images."""
    folder = tmp_path_factory.mktemp("own_data")
    for name, color in COLORS.items():
        for number in range(6):
            make_image(folder / name / f"{number}.png", color, number)
    return folder


@pytest.fixture
def run(tiny_path, own_data, tmp_path, capsys):
    """run(*words) -> (exit code, stdout, stderr) of train.py on `own_data` with the tiny CLIP, one epoch."""

    def run(*words, trainer="MaPLe", output=tmp_path / "out", dataset="folder"):
        code = train.main(
            [
                "--trainer", trainer, "--seed", "1", "--root", str(tmp_path), "--output-dir", str(output),
                "--dataset-config-file", f"configs/datasets/{dataset}.yaml",
                "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", "1",
                "DATASET.PATH", str(own_data), "DATASET.NUM_SHOTS", "2", "DATALOADER.NUM_WORKERS", "0",
                *depth_words(trainer, 2), *map(str, words),
            ]
        )  # fmt: skip
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def trained(own_data, tmp_path_factory):
    """trained(trainer) -> (folder of a finished run on all classes, its data, which is now in another place).

    A trainer is trained once. The run has saved its predictions. `layers` is the number of layers of both towers.
    """
    runs: dict[tuple[str, int], tuple[Path, Path]] = {}

    def trained(trainer: str, layers: int = 2) -> tuple[Path, Path]:
        if (trainer, layers) not in runs:
            folder = tmp_path_factory.mktemp(trainer)
            shutil.copytree(own_data, folder / "data")
            sizes = TINY | {"vision_layers": layers, "transformer_layers": layers}
            torch.save(small_clip.state_dict(**sizes), folder / "clip.pt")
            words = [
                "--trainer", trainer, "--seed", "1", "--output-dir", str(folder / "run"),
                "--dataset-config-file", "configs/datasets/folder.yaml", "MODEL.BACKBONE.PATH", str(folder / "clip.pt"),
                "INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", "1", "DATASET.PATH", str(folder / "data"),
                "DATASET.NUM_SHOTS", "2", "DATALOADER.NUM_WORKERS", "0", "TEST.SAVE_PREDICTIONS", "True",
                *depth_words(trainer, layers),
            ]  # fmt: skip
            assert train.main(words) == 0
            (folder / "data").rename(folder / "moved")
            runs[trainer, layers] = folder / "run", folder / "moved"
        return runs[trainer, layers]

    return trained


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    """make_config(*KEY VALUE pairs) -> a config that names the data set `TwoClasses`, which is registered here."""
    from tiny_engine import register_two_classes

    return register_two_classes(tmp_path, monkeypatch)


@pytest.fixture
def cpu_as_gpu(monkeypatch):
    from captured_steps import count_cpu_as_gpu

    count_cpu_as_gpu(monkeypatch)


@pytest.fixture
def make_trainer(tiny_weights, monkeypatch):
    """See `captured_steps.maker`."""
    from captured_steps import maker

    return maker(tiny_weights, monkeypatch)


@pytest.fixture
def browser():
    """Headless Chromium, as playwright sees it. The test is skipped if either is missing."""
    browser_of = pytest.importorskip("playwright.sync_api").sync_playwright
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium here")
    with browser_of() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def pretend():
    """The pretend accelerator, which trainers choose during the test; see `pretend_device.py`."""
    if not pretend_device.is_supported():
        pytest.skip(f"torch {torch.__version__} has no devices that are written in Python")
    with pretend_device.entered() as device:
        yield device


@pytest.fixture
def zero_shot_argv(tiny_path, own_data, tmp_path) -> list[str]:
    """Arguments of train.py for a quick run: zero-shot on a copy of `own_data`, with a copied config file."""
    shutil.copytree(own_data, tmp_path / "data")
    config = tmp_path / "zero_shot.yaml"
    shutil.copy(ROOT / "configs" / "trainers" / "ZeroshotCLIP" / "vit_b16.yaml", config)
    return [
        "--trainer", "ZeroshotCLIP", "--seed", "1", "--root", str(tmp_path), "--output-dir", str(tmp_path / "out"),
        "--dataset-config-file", "configs/datasets/folder.yaml", "--config-file", str(config),
        "MODEL.BACKBONE.PATH", str(tiny_path), "INPUT.SIZE", "(32,32)", "DATASET.PATH", str(tmp_path / "data"),
        "DATALOADER.NUM_WORKERS", "0",
    ]  # fmt: skip


def depth_words(trainer: str, depth: int) -> list[str]:
    """Config words that put prompts into `depth` layers, whatever the trainer calls that."""
    node = node_of(trainer)
    keys = default_config().TRAINER.get(node, {})
    values = {key: str(depth) for key in keys if "DEPTH" in key}
    values |= {key: value for key, value in layers_of(depth).items() if key in keys}
    return [word for key, value in values.items() for word in (f"TRAINER.{node}.{key}", value)]


def layers_of(depth: int) -> dict[str, str]:
    """Options that suit a tiny tower: the layers from 2 to `depth`, and epochs instead of a number of steps."""
    layers = str(tuple(range(2, depth + 1)))
    return {"N_ITERS": "0", "ADAPTER_START": "2", "ADAPTER_END": str(depth), "REP_LAYERS": layers}


def node_of(trainer: str) -> str:
    """The config node of a trainer."""
    return _node_of(TRAINERS.find(trainer))


def config(*words):
    """The default config with KEY, VALUE words."""
    cfg = get_cfg_default()
    merge_words(cfg, list(words))
    return cfg


def load_dataset(name, root, *words):
    """The data set `name` below `root`, seed 1, with KEY, VALUE words."""
    return build_dataset(config("DATASET.NAME", name, "DATASET.ROOT", str(root), "SEED", "1", *map(str, words)))


def emoji_config_file(name: str) -> str:
    """The config file of an emoji data set, by its class's name."""
    return str(ROOT / "configs" / "datasets" / f"emoji_{name.removeprefix('Emoji').lower()}.yaml")


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
