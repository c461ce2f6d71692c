"""Running averages of the numbers that a training loop prints."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["AverageMeter", "MetricMeter"]


class AverageMeter:
    """Stores the last value (`val`), the sum and the mean (`avg`) of a series.

    If `ema` is True, `avg` is an exponential moving average instead: 0.9 * old average + 0.1 * new value.
    """

    def __init__(self, ema: bool = False):
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        """Start a new series."""
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val: "float | torch.Tensor", n: int = 1) -> None:
        """Add `val`, which is the mean of `n` samples."""
        self.val = float(val)
        self.sum += self.val * n
        self.count += n
        if self.ema and self.count > n:
            self.avg = 0.9 * self.avg + 0.1 * self.val
        else:
            self.avg = self.val if self.ema else self.sum / self.count


class MetricMeter:
    """Stores one AverageMeter for each name.

    >>> meter = MetricMeter(); meter.update({"loss": 0.5}); print(meter)
    loss 0.5000 (0.5000)
    """

    def __init__(self, delimiter: str = " "):
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: "Mapping[str, float | torch.Tensor] | None") -> None:
        """Add one value for each name. If `input_dict` is None, add nothing. Raises TypeError for other types."""
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(f"MetricMeter needs a mapping from names to values, not {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
