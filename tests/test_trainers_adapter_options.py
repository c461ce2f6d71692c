"""Options of the adapters: those that look at test images, those by tested data set, and files of the authors."""

import random

import pytest
import torch
from test_trainers_adapters import GivenFeatures, one_image_each
from tiny_methods import NAMES, config, make

from dassl.data import DataManager
from dassl.utils import InputError
from trainers.base import LabelledFeatures
from trainers.mmrlpp import MMRLpp
from trainers.tip_adapter_f import TipAdapterFCLIP


class BothSplits(GivenFeatures):
    """Features of validation and test images in place of `TrainingFeatures`."""

    def __init__(self, train, val, test):
        super().__init__(train, val)
        self._test = test

    def test(self):
        return self._test


@pytest.mark.parametrize(("images", "count"), [("val", 4), ("test", 2)])
def test_tip_adapter_searches_on_the_named_images(images, count, tiny_clip, capsys):
    _, train = one_image_each(tiny_clip)
    model = make("TipAdapter", tiny_clip, "TRAINER.TIPADAPTER.SEARCH_ON", images).eval()
    data = BothSplits(train, train, LabelledFeatures(train.features[:2], train.labels[:2]))
    model.fit(data)
    model.search(data)
    assert f"chosen on {count} {images} images" in capsys.readouterr().out


def test_tip_adapter_without_a_search_keeps_the_first_values(tiny_clip, capsys):
    _, train = one_image_each(tiny_clip)
    model = make("TipAdapter", tiny_clip, "TRAINER.TIPADAPTER.SEARCH_ON", "none").eval()
    model.search(BothSplits(train, train, train))
    assert "no search" in capsys.readouterr().out
    assert model.alpha.item() == pytest.approx(model.options.INIT_ALPHA)


@pytest.mark.parametrize("key", ["SEARCH_ON", "KEEP_BEST_ON"])
def test_tip_adapter_refuses_other_images(key, tiny_clip):
    with pytest.raises(InputError, match=f"{key}.*'train'"):
        make("TipAdapter", tiny_clip, f"TRAINER.TIPADAPTER.{key}", "train")


def test_the_keys_of_the_best_epoch_are_kept(tiny_clip):
    _, train = one_image_each(tiny_clip)
    model = make("TipAdapterF", tiny_clip, "TRAINER.TIPADAPTERF.INIT_ALPHA", 1000.0).eval()
    good = torch.nn.functional.normalize(train.features, dim=1)
    for epoch, keys in enumerate([good.flip(0), good, good.flip(0)]):
        model.adapter.weight.data.copy_(keys)
        model.keep_best(train, is_last=epoch == 2)
    assert model.best[0] == 100
    assert torch.equal(model.adapter.weight.data, good)


@pytest.mark.parametrize("keep", ["none", "test"])
def test_a_run_looks_at_test_images_only_when_asked(keep, run, monkeypatch):
    seen = []
    kept = TipAdapterFCLIP.keep_best
    monkeypatch.setattr(TipAdapterFCLIP, "keep_best", lambda self, *args: seen.append(args[1]) or kept(self, *args))
    words = ["TRAINER.TIPADAPTERF.KEEP_BEST_ON", keep, "OPTIM.MAX_EPOCH", 2, "TRAINER.TIPADAPTERF.AUGMENT_EPOCH", 1]
    code, _, err = run(*words, trainer="TipAdapterF")
    assert code == 0, err
    assert seen == ([False, True] if keep == "test" else [])


@pytest.mark.parametrize(("first", "order"), [(False, ["train", "val"]), (True, ["val", "train"])])
def test_which_shots_are_drawn_first(first, order, own_data):
    """CLIP-LoRA's official code draws the validation images first, from the same random numbers."""
    words = ["DATASET.NAME", "Folder", "DATASET.PATH", str(own_data), "DATASET.NUM_SHOTS", 1, "SEED", 3]
    words += ["DATASET.VAL_SHOTS_FIRST", first, "DATALOADER.NUM_WORKERS", 0, "INPUT.SIZE", (32, 32)]
    everything = DataManager(config("CLIPLoRA", *words, "DATASET.NUM_SHOTS", -1)).dataset
    drawn = DataManager(config("CLIPLoRA", *words)).dataset
    rng, expected = random.Random(3), {}
    for split in order:
        items = everything.train_x if split == "train" else everything.val
        expected[split] = drawn.generate_fewshot_dataset(items, num_shots=1, rng=rng)
    assert [item.impath for item in drawn.train_x] == [item.impath for item in expected["train"]]
    assert [item.impath for item in drawn.val] == [item.impath for item in expected["val"]]


@pytest.mark.parametrize(
    ("words", "beta"),
    [
        (["TEST.EVAL_ONLY", True, "PROTOCOL", "cross_dataset"], 0.5),
        (["PROTOCOL", "cross_dataset"], 0.9),  # training
        (["TEST.EVAL_ONLY", True], 0.9),
    ],
)
def test_the_tested_data_set_decides_beta_only_across_data_sets(words, beta):
    words = [*words, "TRAINER.MMRLpp.BETA", 0.9, "DATASET.NAME", "DescribableTextures"]
    assert MMRLpp.read_options(config("MMRLpp", *words)).BETA == 0.9
    options = MMRLpp.read_options(config("MMRLpp", *words, "TRAINER.MMRLpp.TARGET_BETA", True))
    assert beta == options.BETA


def test_taskres_reads_a_tuned_projection(tiny_clip, tmp_path):
    tuned = tiny_clip.text_projection.data.t().contiguous() * 2
    torch.save({"state_dict": {"weight": tuned}}, tmp_path / "tuned.pth")
    model = make("TaskRes", tiny_clip, "TRAINER.TaskRes.ENHANCED_BASE", str(tmp_path / "tuned.pth"))
    before, projection = model.prompt_learner.base_text_features.clone(), tiny_clip.text_projection.data.clone()
    model.fit(GivenFeatures(None))
    assert torch.allclose(model.prompt_learner.base_text_features, 2 * before, atol=1e-5)
    assert torch.equal(tiny_clip.text_projection.data, projection)


def test_taskres_refuses_another_tensor(tiny_clip, tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(3, len(NAMES))}}, tmp_path / "tuned.pth")
    model = make("TaskRes", tiny_clip, "TRAINER.TaskRes.ENHANCED_BASE", str(tmp_path / "tuned.pth"))
    with pytest.raises(InputError, match=r"tuned.pth.*has no tensor weight of shape"):
        model.fit(GivenFeatures(None))


@pytest.mark.parametrize("trainer", ["MMRL", "MMRLpp"])
def test_official_commands_name_a_task(trainer, run):
    code, _, err = run("TASK", "FS", trainer=trainer)
    assert code == 0, err
