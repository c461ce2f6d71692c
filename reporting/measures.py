"""Averages accuracies over seeds and data sets, and computes the spread over seeds. Tables and plots use this module.

A measure is an accuracy in per cent. The measure `hm` is the harmonic mean of the accuracy on base classes and the
accuracy on new classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Value:
    """The value of one measure in one row of a table. All numbers are in per cent. An unknown number is None."""

    mean: float | None = None
    std: float | None = None  # standard deviation over seeds (divisor n - 1)
    ci95: float | None = None  # half the width of the 95 % confidence interval (Student's t)
    paper: float | None = None  # published mean for the same method, data set, backbone and number of shots

    @property
    def difference(self) -> float | None:
        """The mean minus the published figure. None if the mean or the published figure is unknown."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    @property
    def is_off(self) -> bool | None:
        """Whether the published figure differs from the mean by more than two standard deviations.

        None if there is no published figure, or if the standard deviation is unknown or 0.
        """
        if not self.std or self.paper is None:
            return None
        return self.difference is not None and abs(self.difference) > 2 * self.std


def harmonic_mean(base: float, new: float) -> float:
    """Return the harmonic mean of two accuracies, or 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def with_harmonic_mean(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of `frame` with a new column `hm`, the harmonic mean of its columns `base` and `new`."""
    return frame.assign(hm=[harmonic_mean(*pair) for pair in frame[["base", "new"]].itertuples(index=False)])


def by_seed(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return a table of the accuracies in `runs`, which are one method's runs on one data set.

    The table has a row for each seed and a column for each measure. A missing accuracy is NaN.
    """
    if protocol != "base2new":
        return runs.groupby("seed")[["accuracy"]].mean()
    frame = runs.pivot_table(index="seed", columns="part", values="accuracy").reindex(columns=["base", "new"])
    return with_harmonic_mean(frame)


def summarize(frames: Sequence[pd.DataFrame], measures: Sequence[str]) -> tuple[dict[str, Value], list[int]]:
    """Average the accuracies over seeds and data sets.

    The mean of `hm` is computed from the mean base accuracy and the mean new accuracy, as in the papers. The spread is
    computed over seeds, after averaging each seed's accuracies over data sets. Only seeds that all data sets have are
    used for the spread.

    Args:
        frames: a list with the result of `by_seed` for each data set.
        measures: names of the measures to return.

    Returns:
        A dict that maps each measure to its value, and a list of the seeds that all data sets have. A measure without
        data has the value Value(), in which all numbers are None.
    """
    frames = [some for frame in frames if len(some := frame.dropna(how="all"))]
    means = pd.DataFrame([frame.mean() for frame in frames]).mean()
    seeds = sorted(set.intersection(*(set(frame.index) for frame in frames))) if frames else []
    # means over data sets, with a row for each seed
    averages = sum(frame.loc[seeds] for frame in frames) / max(1, len(frames))
    values = dict.fromkeys(measures, Value())
    if "hm" in means:
        means["hm"] = harmonic_mean(means["base"], means["new"])
        averages = with_harmonic_mean(averages)
    for name, mean in means.items():
        values[str(name)] = with_spread(float(mean), averages[name].dropna())
    return values, [int(seed) for seed in seeds]


def with_spread(mean: float, by_seed: pd.Series) -> Value:
    """Return the value with this mean, and with the spread of the values of the seeds."""
    from scipy import stats  # imported here because a report with one seed doesn't need this slow import

    count = len(by_seed)
    if math.isnan(mean) or count < 2:
        return Value(None if math.isnan(mean) else mean)
    std = float(by_seed.std())
    return Value(mean, std, float(stats.t.ppf(0.975, count - 1) * std / math.sqrt(count)))
