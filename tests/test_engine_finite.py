"""Infinite and NaN values: a run that diverges, or whose inputs aren't finite, ends with one line and no result."""

import pytest
import torch
from tiny_engine import LinearTrainer

from dassl.utils import load_checkpoint
from dassl.utils.command_line import report_errors


class Steep(LinearTrainer):
    """A finite loss whose gradient times the learning rate overflows."""

    def forward_backward(self, batch):
        image, _, _ = self.parse_batch_train(batch)
        loss = 1e12 * self.model(image).sum()
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}


class Undefined(LinearTrainer):
    """Logits that are NaN for one class."""

    def model_inference(self, input):
        return super().model_inference(input).index_fill(1, torch.tensor([1]), torch.nan)


def error_of(job, capsys):
    """The only line of an error with exit code 1."""
    capsys.readouterr()
    assert report_errors(job, debug=False) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    return line.partition("error: ")[2]


@pytest.mark.parametrize("final", ["last_step", "best_val"])
def test_a_last_step_that_diverges_is_an_error(final, make_config, tmp_path, capsys):
    """The run has a single step, so no later loss is NaN."""
    words = ("OPTIM.LR", 1e30, "OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 10, "TEST.FINAL_MODEL", final)
    message = error_of(Steep(make_config(*words)).train, capsys)
    assert message == "the parameter linear.1.weight is infinite or NaN after epoch 1. Try a lower OPTIM.LR"
    assert not (tmp_path / "out/result.json").exists()
    assert not list((tmp_path / "out").glob("linear/*"))


def test_logits_that_are_not_finite_are_an_error(make_config, tmp_path, capsys):
    message = error_of(Undefined(make_config("OPTIM.MAX_EPOCH", 0)).train, capsys)
    assert message == f"the logits of {tmp_path}/images/0.png are infinite or NaN"
    assert not (tmp_path / "out/result.json").exists()


def test_a_checkpoint_that_is_not_finite_is_neither_resumed_nor_tested(make_config, tmp_path, capsys):
    LinearTrainer(make_config("OPTIM.MAX_EPOCH", 1)).train()
    path = tmp_path / "out/linear/model.pth.tar-1"
    content = load_checkpoint(path)
    content["state_dict"]["1.bias"].fill_(torch.nan)
    torch.save(content, path)
    assert "parameter linear.1.bias is infinite" in error_of(LinearTrainer(make_config()).train, capsys)

    def test():
        trainer = LinearTrainer(make_config())
        trainer.load_model(str(tmp_path / "out"))
        trainer.test()

    assert "the logits of" in error_of(test, capsys)


@pytest.mark.parametrize("lr", ["1e400", "1e30", "1e40"])
def test_a_learning_rate_that_is_too_large_is_one_line(lr, run, tmp_path):
    """A step with a larger rate than float32 can hold would be an error of PyTorch."""
    code, _, err = run("OPTIM.LR", lr, "OPTIM.NAME", "sgd", "OPTIM.WARMUP_EPOCH", -1, trainer="CoOp")
    assert (code, err.count("error: ")) == ((1, 1) if lr == "1e30" else (2, 1))
    assert "infinite or NaN" in err if lr == "1e30" else "OPTIM.LR must be finite and at most 1e+30" in err
    assert not (tmp_path / "out/result.json").exists()
