"""Meters and the logger: what a run prints."""

import io
import sys

import pytest
import torch

from dassl.utils import AverageMeter, Logger, MetricMeter, setup_logger
from dassl.utils.logger import print_details, print_step


def test_meters_print_the_last_value_and_the_average():
    meter = MetricMeter()
    meter.update({"loss": torch.tensor(1.0)})
    meter.update({"loss": 2.0})
    assert str(meter) == "loss 2.0000 (1.5000)"
    meter.update(None)
    with pytest.raises(TypeError):
        meter.update(3)
    ema = AverageMeter(ema=True)
    ema.update(1)
    ema.update(2)
    assert ema.avg == pytest.approx(1.1)


def test_a_second_logger_appends_to_the_log(tmp_path):
    console = sys.stdout
    for text in ("one", "two"):
        setup_logger(tmp_path)
        print(text)
        assert isinstance(sys.stdout, Logger)
        sys.stdout.close()
        sys.stdout = console
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_details_are_in_the_log_file_and_only_shown_if_wanted(verbose, stream, tmp_path, monkeypatch):
    """The config is a detail. The line of a step is one in a terminal, where a progress bar shows its values."""
    console = stream()
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", stream())
    setup_logger(tmp_path, is_verbose=verbose)
    print_details("the config")
    print_step("epoch [1/1] batch [1/1]")
    sys.stdout.close()
    assert (tmp_path / "log.txt").read_text() == "the config\nepoch [1/1] batch [1/1]\n"
    assert ("the config" in console.getvalue()) == verbose
    assert ("epoch" in console.getvalue()) == (verbose or stream is io.StringIO)
