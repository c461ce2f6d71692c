"""Several tasks at once: their data, their scores, SoftCPT and its baselines."""

import itertools
import json
import math

import pytest
import torch
from conftest import SHARED, make_image, relative, result_of

from dassl.config import get_cfg_default, merge_file, merge_words
from dassl.data.datasets import build_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import build_evaluator
from dassl.utils import InputError, load_plugins
from trainers.base import Batch, Task, total
from trainers.common.options import default_config

load_plugins("datasets")
load_plugins("trainers")
TASKS = {"fruit": ["apple", "pear", "plum"], "tools": ["hammer", "saw"]}


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """A YAML of two tasks of one's own folders; the second's name is in its task_name.txt."""
    root = tmp_path_factory.mktemp("tasks")
    for task, names in TASKS.items():
        for number, name in enumerate(names):
            for image in range(6):
                make_image(root / task / name / f"{image}.png", (80 * number, 50, 30), image)
    (root / "tools/task_name.txt").write_text("tool recognition\n")
    entries = [["Folder", "fruit recognition", str(root / "fruit")], ["Folder", "ignored", str(root / "tools")]]
    config = root / "two.yaml"
    config.write_text(
        f"DATASET:\n  NAME: MultiTask\n  TASKS: {json.dumps(entries)}\nTEST:\n  EVALUATOR: ClassificationMT\n"
    )
    return config


def load(config, *words):
    cfg = get_cfg_default()
    merge_file(cfg, config)
    merge_words(cfg, ["SEED", "1", "DATASET.NUM_SHOTS", "2", *words])
    return cfg, build_dataset(cfg)


def test_tasks_become_columns(two_tasks):
    _, data = load(two_tasks)
    assert data.tasknames == ["fruit recognition", "tool recognition"]
    assert data.classnames == [TASKS["fruit"], TASKS["tools"]]
    assert (data.columns, data.num_classes, len(data.train_x)) == ([(0, 3), (3, 5)], 5, 10)
    first, last = data.train_x[0], data.train_x[-1]
    assert (first.label.tolist(), last.label.tolist()) == ([1, 0, 0, -1, -1], [-1, -1, -1, 0, 1])
    _, base = load(two_tasks, "DATASET.SUBSAMPLE_CLASSES", "base")
    assert base.classnames == [["apple", "pear"], ["hammer"]]
    for which, names in (("base", ["fruit recognition"]), ("new", ["tool recognition"]), ("1", ["tool recognition"])):
        assert load(two_tasks, "DATASET.SUBSAMPLE_TASKS", which)[1].tasknames == names
    with pytest.raises(InputError, match="SUBSAMPLE_TASKS"):
        load(two_tasks, "DATASET.SUBSAMPLE_TASKS", "7")


def test_scores_are_by_task_and_their_mean(two_tasks, capsys):
    cfg, data = load(two_tasks, "TEST.PER_TASK_RESULT", "True")
    data.metrics = ["mean_acc", "overall_acc"]
    evaluator = build_evaluator(cfg, lab2cname=data.lab2cname, dataset=data)
    labels = torch.tensor([[1, 0, 0, -1, -1]] * 2 + [[0, 1, 0, -1, -1]] + [[-1, -1, -1, 0, 1]] * 2)
    logits = torch.tensor([[1.0, 0, 0, 9, 9], [0, 1, 0, 9, 9], [0, 1, 0, 9, 9], [9, 9, 9, 0, 1], [9, 9, 9, 1, 0]])
    evaluator.process(logits, labels)  # other tasks' high logits don't count
    results = evaluator.evaluate()
    assert results["metric"] == pytest.approx((75 + 50) / 2)
    record = evaluator.record()
    assert record["per_task"] == {"fruit recognition": 75.0, "tool recognition": 50.0}
    assert record["per_class"]["tool recognition/saw"] == 50.0
    fruit, tools = math.e / (math.e + 2), math.e / (math.e + 1)  # confidences, from the classes of the task
    assert record["ece"] == pytest.approx(100 * (abs(2 / 3 - fruit) + abs(1 / 2 - tools)) / 2)
    assert "top5_accuracy" not in record
    evaluator.reset()
    evaluator.process(logits[:3], labels[:3])
    assert evaluator.record()["accuracy"] == 75.0, "a task without images, as in a validation, has no score"
    out = capsys.readouterr().out
    assert "* overall_metric: 62.50%" in out
    assert "* fruit recognition: 75.00%" in out


@pytest.mark.parametrize("trainer", ["SoftCPT", "MTCoOp", "MTCoOpHard"])
def test_trains_and_tests_on_new_classes_of_every_task(trainer, two_tasks, run, tmp_path):
    words = ["--dataset-config-file", two_tasks, "DATASET.PATH", ""]
    code, _, err = run(*words, "DATASET.SUBSAMPLE_CLASSES", "base", trainer=trainer)
    assert code == 0, err
    base = result_of(tmp_path / "out")
    assert set(base["per_class"]) == {"fruit recognition/apple", "fruit recognition/pear", "tool recognition/hammer"}
    test = ["--eval-only", "--model-dir", tmp_path / "out", "DATASET.SUBSAMPLE_CLASSES", "new"]
    code, _, err = run(*words, *test, trainer=trainer, output=tmp_path / "new")
    assert code == 0, err
    assert set(result_of(tmp_path / "new")["per_class"]) == {"fruit recognition/plum", "tool recognition/saw"}
    for folder in ["prompt_learner"] + (["task_prompt_learner", "prompt_gen"] if trainer != "MTCoOpHard" else []):
        assert (tmp_path / "out" / folder / "model.pth.tar-1").is_file()


def make(tiny_clip, trainer="SoftCPT", **options):
    cfg = default_config()
    kind = TRAINER_REGISTRY.get(trainer)
    for key, value in options.items():
        merge_words(cfg, [f"TRAINER.{kind.node or trainer.upper()}.{key}", value])
    torch.manual_seed(0)
    tasks = [Task(*task) for task in TASKS.items()]
    return kind.build_method(cfg, tiny_clip, tasks, "a photo of a {}.")


def loss_of(model, output):
    return total(model.losses(output, Batch(IMAGES, LABELS)))


IMAGES = torch.randn(3, 3, 32, 32)
LABELS = torch.tensor([[0, 1, 0, -1, -1], [-1, -1, -1, 0, 1], [1, 0, 0, -1, -1]])


@pytest.mark.parametrize("kind", ["lin", "linmean", "lincls"])
@pytest.mark.parametrize(("by_class", "own"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_all_variants_learn(tiny_clip, kind, by_class, own, position):
    options = {"PG_TYPE": kind, "CSC": by_class, "CLASS_CSC": own, "TASK_CSC": own, "TOKEN_POSITION": position}
    model = make(tiny_clip, **options, N_CTX=4, CLASS_TOKEN_POSITION=position, TASK_TOKEN_POSITION=position)
    loss_of(model, model.outputs(Batch(IMAGES, LABELS))).backward()
    unused = {"task_prompt_learner.ctx"} if by_class and kind == "lincls" else set()
    assert {name for name, p in model.named_parameters() if p.grad is None} == unused
    width = 128 if by_class and kind == "lin" else 64
    assert model.prompt_gen.proj.shape == (width, 4 * 128)


@pytest.mark.parametrize("position", ["end", "middle"])
def test_sampled_classes_have_the_logits_of_all(tiny_clip, position):
    model = make(tiny_clip, CSC=True, CLASS_CSC=True, CLS_SAMPLE_RATE=0.5, N_CTX=4, TOKEN_POSITION=position)
    output = model.outputs(Batch(IMAGES, LABELS))
    full, sampled = model(IMAGES), output.logits
    kept = torch.isfinite(sampled)
    assert kept[:, [0, 1, 4]].all()  # the batch's own classes
    assert kept[0].sum() == 4  # and half of the two others
    assert relative(sampled[kept], full[kept]) < 1e-4
    assert torch.isfinite(loss_of(model, output))


def test_classes_that_are_not_sampled_are_not_encoded(tiny_clip, monkeypatch):
    model = make(tiny_clip, CSC=True, CLS_SAMPLE_RATE=0.5, N_CTX=4)
    counts, encode = [], tiny_clip.encode_prompts
    monkeypatch.setattr(tiny_clip, "encode_prompts", lambda *args: counts.append(len(args[0])) or encode(*args))
    model.outputs(Batch(IMAGES, LABELS))
    assert max(counts) == 4  # the batch's own classes, and half of the two others


@pytest.mark.parametrize(
    ("options", "shape"), [({}, (16, 128)), ({"TSC": True}, (2, 16, 128)), ({"CSC": True}, (5, 16, 128))]
)
def test_hard_sharing(tiny_clip, options, shape):
    model = make(tiny_clip, "MTCoOpHard", **options)
    assert model.prompt_learner.ctx.shape == shape
    assert model(IMAGES).shape == (3, 5)


def test_one_task_is_coop_with_a_generated_context(tiny_clip):
    model = make(tiny_clip, N_CTX=4)
    coop = make(tiny_clip, "MTCoOpHard", N_CTX=4, TSC=True)
    with torch.no_grad():
        coop.prompt_learner.ctx.copy_(model.contexts())
    assert relative(coop(IMAGES), model(IMAGES)) < 1e-5


@pytest.mark.parametrize(("legacy", "steps"), [(False, 1), (True, 3)])
def test_it_steps_once_unless_told_otherwise(legacy, steps, two_tasks, run, tmp_path, monkeypatch):
    counts = {"optimizer": 0, "schedule": 0}
    for kind, name in ((torch.optim.SGD, "optimizer"), (torch.optim.lr_scheduler.CosineAnnealingLR, "schedule")):
        original = kind.step

        def counted(self, *args, name=name, original=original, **kwargs):
            counts[name] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "step", counted)
    words = ["--dataset-config-file", two_tasks, "DATASET.PATH", "", "OPTIM.WARMUP_EPOCH", 0, "TEST.NO_TEST", True]
    words += ["TRAINER.SOFTCPT.LEGACY_STEPS", legacy, "DATALOADER.TRAIN_X.BATCH_SIZE", 5]
    assert run(*words, trainer="SoftCPT")[0] == 0
    assert counts["optimizer"] == 2 * steps
    assert counts["schedule"] in (steps, steps + 1)  # torch steps a schedule once when it is made


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="../shared is not here")
def test_general10_runs_on_what_is_there(capsys):
    cfg = get_cfg_default()
    merge_file(cfg, "configs/datasets/general10.yaml")
    merge_words(cfg, ["DATASET.ROOT", str(SHARED / "data"), "SEED", "1", "DATASET.NUM_SHOTS", "1"])
    data = build_dataset(cfg)
    assert len(data.tasknames) == 4
    assert data.tasknames[0] == "object recognition"
    assert data.metrics == ["mean_acc", "overall_acc", "mean_acc", "mean_acc"]
    out = capsys.readouterr().out
    assert "Skipped 6 of 10 tasks" in out
    assert "EuroSAT" in out


def test_fashion20_reads_its_table(tmp_path):
    for task, name, image in itertools.product(("neckline", "sleeve"), ("long", "short"), range(4)):
        make_image(tmp_path / "fashion20/images" / task / name / f"{image}.png", (9, 9, 9), image)
    rows = ["number\tname\tdescription\tclasses", "0\tneckline\tx\tlong,short", "1\tsleeve\tx\tlong,short"]
    (tmp_path / "fashion20/task_info.csv").write_text("\n".join(rows))
    cfg = get_cfg_default()
    merge_file(cfg, "configs/datasets/fashion20.yaml")
    merge_words(cfg, ["DATASET.ROOT", str(tmp_path)])
    data = build_dataset(cfg)
    assert (data.tasknames, data.metrics) == (["neckline", "sleeve"], ["mean_acc", "mean_acc"])
    merge_words(cfg, ["DATASET.ROOT", str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match=r"task_info\.csv"):
        build_dataset(cfg)
