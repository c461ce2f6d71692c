"""One matrix over all trainers: what learns, what is saved, other class names, precisions, widths, backbones."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, depth_words, node_of, relative, result_of
from small_clip import state_dict

from clip.model import convert_weights, from_state_dict
from dassl.config import merge_file, merge_words
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError, count_num_param, load_plugins
from trainers.base import Batch, PromptTrainer, total
from trainers.common.checkpoint import learned_tensors
from trainers.common.options import default_config, default_config_file

load_plugins("trainers")
TRAINERS = {
    name: kind
    for name, kind in ((name, TRAINER_REGISTRY.get(name)) for name in TRAINER_REGISTRY.registered_names())
    if issubclass(kind, PromptTrainer)
}
NAMES = ["red_thing", "green thing", "a rather long name of a thing", "x"]


def config(trainer, *words):
    """Defaults with the prompts no deeper than a tiny tower."""
    cfg = default_config()
    node = cfg.TRAINER[node_of(trainer)]
    for key in node:
        if "DEPTH" in key:
            node[key] = min(node[key], TINY["vision_layers"])
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


@each_trainer
def test_only_the_declared_parameters_learn(trainer, tiny_clip):
    model = make(trainer, tiny_clip)
    frozen = {name: p.clone() for name, p in tiny_clip.named_parameters()}
    learnable = {name: p.detach().clone() for name, p in model.named_parameters()}
    if not learnable:
        assert not TRAINERS[trainer].checkpoints
        return
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss(model, torch.randn(4, 3, 32, 32), torch.arange(4)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, f"{name} has no gradient"
        assert p.grad.abs().max() > 0, f"{name} has no gradient"
    assert all(p.grad is None for p in tiny_clip.parameters())
    optimizer.step()
    assert all(not torch.equal(p, learnable[name]) for name, p in model.named_parameters())
    assert all(torch.equal(p, frozen[name]) for name, p in tiny_clip.named_parameters())


@each_trainer
def test_text_features_are_made_once_a_test_and_never_stale(trainer, tiny_clip):
    model = make(trainer, tiny_clip).eval()
    calls = []
    encode = tiny_clip.encode_prompts
    tiny_clip.encode_prompts = lambda *args: calls.append(1) or encode(*args)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        first = model(images)
        assert torch.equal(model(images), first)
    once = len(calls)
    for p in model.parameters():
        with torch.no_grad():
            p.add_(0.1)
    with torch.no_grad():
        changed = model(images)
    if list(model.parameters()):
        assert not torch.equal(changed, first)
    if not model.text_depends_on_image:
        assert len(calls) == (2 * once if model.text_is_learned else once)


@each_trainer
def test_trains_saves_and_tests_on_other_names(trainer, run, tmp_path):
    code, _, err = run("DATASET.SUBSAMPLE_CLASSES", "base", trainer=trainer)
    assert (code, err.count("error")) == (0, 0), err
    base = result_of(tmp_path / "out")
    assert set(base["per_class"]) == {"blue", "green thing"}
    assert base["trainer"] == trainer
    words = ["--eval-only", "DATASET.SUBSAMPLE_CLASSES", "new", "TEST.SAVE_PREDICTIONS", "True"]
    if TRAINERS[trainer].checkpoints:
        words += ["--model-dir", tmp_path / "out"]
        if trainer == "LinearProbe":  # a classifier of certain classes
            code, _, err = run(*words, trainer=trainer, output=tmp_path / "new")
            assert (code, "other classes" in err) == (2, True)
            return
        folders = [folder for folder in TRAINERS[trainer].checkpoints if (tmp_path / "out" / folder).is_dir()]
        assert folders
        for folder in folders:
            saved = torch.load(tmp_path / "out" / folder / "model.pth.tar-1", weights_only=True)["state_dict"]
            assert sum(p.numel() for p in saved.values()) < 1_000_000  # prompts only
    code, _, err = run(*words, trainer=trainer, output=tmp_path / "new")
    assert code == 0, err
    assert set(result_of(tmp_path / "new")["per_class"]) == {"grey", "red_thing"}


@each_trainer
def test_a_saved_model_gives_the_same_bits(trainer, tiny_clip, tiny_weights, tmp_path):
    model, images = make(trainer, tiny_clip).eval(), torch.randn(3, 3, 32, 32)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "saved.pt")
    other = make(trainer, from_state_dict(tiny_weights)).eval()
    checkpoint = torch.load(tmp_path / "saved.pt", weights_only=True)
    other.load_state_dict(learned_tensors(checkpoint, other, other, tmp_path / "saved.pt"))
    with torch.no_grad():
        assert torch.equal(other(images), model(images))


@each_trainer
def test_bf16_is_near_fp32_and_prompts_stay_float32(trainer, tiny_weights):
    logits = []
    images = torch.randn(2, 3, 32, 32)
    for dtype in (torch.float32, torch.bfloat16):
        clip_model = from_state_dict(tiny_weights)
        convert_weights(clip_model, dtype)
        model = make(trainer, clip_model)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        output = model(images)
        assert output.dtype == torch.float32
        if list(model.parameters()):
            output.sum().backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        logits.append(output.detach())
    assert relative(logits[1], logits[0]) < 0.1


@each_trainer
def test_bf16_trains_on_the_cpu(trainer, run, tmp_path):
    code, _, err = run(f"TRAINER.{node_of(trainer)}.PREC", "bf16", trainer=trainer)
    assert code == 0, err
    assert result_of(tmp_path / "out")["n_total"] > 0


@each_trainer
def test_fp16_says_that_it_is_fp32_on_a_cpu(trainer, run):
    code, out, err = run(f"TRAINER.{node_of(trainer)}.PREC", "fp16", "--no-train", trainer=trainer)
    assert code == 0, err
    if not torch.cuda.is_available():
        assert "PREC fp16 is for GPUs: computing in fp32" in out
    code, _, err = run(f"TRAINER.{node_of(trainer)}.PREC", "fp8", trainer=trainer)
    assert code == 2
    assert "bf16" in err


@each_trainer
def test_a_resnet_works_or_is_refused_before_any_image(trainer, resnet_weights):
    clip_model = from_state_dict(resnet_weights)
    try:
        model = make(trainer, clip_model)
    except InputError as error:
        told = str(error)
    else:
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, len(NAMES))
        return
    assert "ResNet" in told


@each_trainer
def test_large_shapes(trainer):
    """ViT-L/14's widths and heads, in two layers."""
    large = {"embed_dim": 768, "image_resolution": 28, "vision_width": 1024, "vision_patch_size": 14}
    large |= {"vision_layers": 2, "transformer_width": 768, "transformer_heads": 12, "transformer_layers": 2}
    model = make(trainer, from_state_dict(state_dict(**large)), *depth_words(trainer, 2))
    assert model(torch.randn(2, 3, 28, 28)).shape == (2, len(NAMES))


@each_trainer
def test_one_class(trainer, tiny_clip):
    assert make(trainer, tiny_clip, names=["only"])(torch.randn(2, 3, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize("trainer", [name for name in TRAINERS if name != "LinearProbe"])
def test_a_name_that_is_too_long_is_told(trainer, tiny_clip):
    with pytest.raises(InputError, match="too long"):
        make(trainer, tiny_clip, names=["fine", "long " * 90])


@each_trainer
def test_its_default_configs_resolve(trainer):
    kind = TRAINERS[trainer]
    for cross in (False, True):
        path = default_config_file(kind, cross)
        cfg = config(trainer)
        merge_file(cfg, path)
        assert cfg.MODEL.BACKBONE.NAME
        assert cfg.INPUT.INTERPOLATION == "bicubic"


# ---- MaPLe ----


def test_maple_has_the_papers_number_of_parameters():
    sizes = {"vision_layers": 12, "transformer_layers": 12, "image_resolution": 32}
    clip_model = from_state_dict(state_dict(**sizes))
    cfg = config("MaPLe", "TRAINER.MAPLE.PROMPT_DEPTH", "9")
    assert count_num_param(build("MaPLe", cfg, clip_model)) == 3_555_072
    merge_words(cfg, ["TRAINER.MAPLE.SHARED_PROJECTION", "True"])
    dagger = count_num_param(build("MaPLe", cfg, clip_model))
    assert dagger == 9 * 2 * 512 + 768 * 513  # about 9 times fewer


def test_maple_learns_two_words_and_keeps_the_others(tiny_clip):
    model = make("MaPLe", tiny_clip)
    ids = torch.tensor([[320, 1125, 539, 320]])  # a photo of a
    words = tiny_clip.token_embedding(ids)[0]
    assert torch.equal(model.prompt_learner.ctx, words[:2])
    prefix = model.prompts.with_context(torch.zeros(2, 128))[0][0]
    assert torch.equal(prefix[1:3], torch.zeros(2, 128))
    assert torch.equal(prefix[3:5], words[2:])
    random_context = make("MaPLe", tiny_clip, "TRAINER.MAPLE.N_CTX", "5").prompt_learner.ctx
    assert random_context.shape == (5, 128)
    assert random_context.std() < 0.03


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("TRAINER.MAPLE.PROMPT_DEPTH", "4"), "layers 1 to 3"),
        (("TRAINER.MAPLE.PROMPT_DEPTH", "0"), "layers 1 to 3"),
        (("TRAINER.MAPLE.N_CTX", "3", "TRAINER.MAPLE.CTX_INIT", "photo of"), "has 2 tokens, fewer than N_CTX 3"),
        (("TRAINER.MAPLE.N_CTX", "0"), "at least one token"),
    ],
)
def test_prompts_that_have_no_place_are_refused(tiny_clip, words, message):
    with pytest.raises(InputError, match=message):
        make("MaPLe", tiny_clip, *words)


# ---- official checkpoints ----


class LiveScheduler:
    """What the original pickles into its checkpoints."""


@pytest.fixture
def official(tmp_path, tiny_weights, run):
    """A trained run of ours, and its prompts in the official form: the whole model, names of other classes."""
    code, _, err = run()
    assert code == 0, err
    ours = torch.load(tmp_path / "out/MultiModalPromptLearner/model.pth.tar-1", weights_only=True)["state_dict"]
    state = OrderedDict((name, p.half()) for name, p in ours.items())
    state["prompt_learner.token_prefix"] = torch.randn(9, 1, 128)
    state["prompt_learner.token_suffix"] = torch.randn(9, 74, 128)
    for name, weight in tiny_weights.items():
        if name.startswith("visual."):
            state[f"image_encoder.{name.removeprefix('visual.')}"] = weight.half()
        elif name == "logit_scale":
            state[name] = weight.half()
        elif not name.startswith("token_embedding"):
            state[f"text_encoder.{name}"] = weight.half()
    folder = tmp_path / "released/MultiModalPromptLearner"
    folder.mkdir(parents=True)

    def save(state=state):
        content = {"state_dict": state, "epoch": 5, "optimizer": None, "scheduler": {"successor": LiveScheduler()}}
        torch.save(content, folder / "model.pth.tar-5")

    save()
    return SimpleNamespace(state=state, save=save, folder=tmp_path / "released")


def test_an_official_checkpoint_is_tested(official, run, tmp_path):
    code, _, err = run("--eval-only", "--model-dir", official.folder, "--load-epoch", 5, output=tmp_path / "theirs")
    assert code == 0, err
    theirs, ours = result_of(tmp_path / "theirs"), result_of(tmp_path / "out")
    assert theirs["epoch"] == 5
    assert theirs["accuracy"] == pytest.approx(ours["accuracy"], abs=10)  # half precision prompts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("prompt_learner.compound_prompts_text.0"), "has no prompt_learner.compound_prompts_text.0"),
        (
            lambda s: s.update({"prompt_learner.compound_prompts_text.1": torch.zeros(2, 128)}),
            "compound_prompts_text.1",
        ),
        (lambda s: s.update({"prompt_learner.ctx": torch.zeros(4, 128)}), r"prompt_learner.ctx is \(4, 128\)"),
        (lambda s: s.update({"image_encoder.VPT": torch.zeros(2, 192)}), "image_encoder.VPT"),
        (lambda s: s.update({"image_encoder.proj": torch.zeros(8, 8)}), "another backbone"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_key(official, run, tmp_path, change, message):
    change(official.state)
    official.save()
    code, _, err = run("--eval-only", "--model-dir", official.folder, output=tmp_path / "theirs")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    import re

    assert re.search(message, err), err


def test_prompts_of_a_vit_b16_are_small_on_disk(tmp_path):
    clip_model = from_state_dict(state_dict(vision_layers=9, transformer_layers=9))
    cfg = config("MaPLe", "TRAINER.MAPLE.PROMPT_DEPTH", "9")
    model = build("MaPLe", cfg, clip_model)
    torch.save({"state_dict": model.state_dict(), "epoch": 5}, tmp_path / "prompts.pt")
    assert (tmp_path / "prompts.pt").stat().st_size < 15_000_000


def official_form(folder: str, part: str, state: dict, tiny_weights: dict) -> dict:
    """What the original saves: half precision, class tokens of other classes, and where it saves it the whole model."""
    saved = OrderedDict((name, p.half() if p.is_floating_point() else p) for name, p in state.items())
    if part:
        prefix = "0." if folder == "prompt_learner" and not state else ""
        saved[f"{prefix}token_prefix"] = torch.randn(9, 1, 128)
        saved[f"{prefix}token_suffix"] = torch.randn(9, 74, 128)
        return saved
    saved |= {"prompt_learner.token_prefix": torch.randn(9, 1, 128)}
    towers = {"visual.": "image_encoder.", "": "text_encoder."}
    for name, weight in tiny_weights.items():
        start = "visual." if name.startswith("visual.") else ""
        if not name.startswith(("token_embedding", "logit_scale")):
            saved[towers[start] + name.removeprefix(start)] = weight.half()
    return saved


@each_trainer
def test_official_checkpoints_load_and_ours_have_their_keys(trainer, tiny_clip, tiny_weights, tmp_path):
    model = make(trainer, tiny_clip)
    parts = dict(model.named_modules())
    for folder, part in TRAINERS[trainer].checkpoints.items():
        if trainer == "LinearProbe" or part not in parts:
            continue
        ours = {name: torch.randn_like(p) for name, p in parts[part].state_dict().items()}
        theirs = official_form(folder, part, ours, tiny_weights)
        assert set(ours) <= set(theirs)
        found = learned_tensors({"state_dict": theirs}, parts[part], model, tmp_path)
        parts[part].load_state_dict(found)
        for name, p in parts[part].state_dict().items():
            assert relative(p, ours[name]) < 1e-3


def test_cocoop_at_batch_4_is_four_times_batch_1(tiny_clip):
    model, images = make("CoCoOp", tiny_clip), torch.randn(4, 3, 32, 32)
    one_by_one = torch.cat([model(image[None]) for image in images])
    assert relative(model(images), one_by_one) < 1e-5
    with torch.no_grad():
        assert relative(model(images.repeat(600, 1, 1, 1))[-4:], one_by_one) < 1e-5  # in parts, for the memory


def test_softcpt_runs_with_one_task_and_coops_settings(run, own_data, tmp_path):
    tasks = f"[['Folder', 'colour recognition', '{own_data}']]"
    words = [
        "DATASET.NAME",
        "MultiTask",
        "DATASET.TASKS",
        tasks,
        "DATASET.PATH",
        "",
        "TEST.EVALUATOR",
        "ClassificationMT",
    ]
    code, _, err = run(*words, "--config-file", "configs/trainers/CoOp/vit_b16_ep50.yaml", trainer="SoftCPT")
    assert code == 0, err
    assert list(result_of(tmp_path / "out")["per_task"]) == ["colour recognition"]
