"""Meters and the logger: what a run prints."""

import sys

import pytest
import torch

from dassl.utils import AverageMeter, Logger, MetricMeter, setup_logger


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
