"""Means over seeds and data sets, and their spread. Called by the tables and plots.

A measure is an accuracy in per cent, or `hm`: the harmonic mean of the accuracies on base and new classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Value:
    """The value of one measure in one row of a table, in per cent. None: unknown."""

    mean: float | None = None
    std: float | None = None  # standard deviation over seeds (n - 1)
    ci95: float | None = None  # half the width of Student's 95 % interval
    paper: float | None = None  # published figure of the same method, data set, backbone and shots

    @property
    def difference(self) -> float | None:
        """The mean minus the published figure. None where either is unknown."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    @property
    def is_off(self) -> bool | None:
        """Whether the published figure is more than two standard deviations away. None: there is no spread."""
        if not self.std or self.paper is None:
            return None
        return self.difference is not None and abs(self.difference) > 2 * self.std


def harmonic_mean(base: float, new: float) -> float:
    """Return the harmonic mean, 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def with_harmonic_mean(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of the columns `base` and `new` with their harmonic mean as the column `hm`."""
    return frame.assign(hm=[harmonic_mean(*pair) for pair in frame[["base", "new"]].itertuples(index=False)])


def by_seed(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return the accuracies of one data set's runs: a row for each seed, a column for each measure, NaN if missing."""
    if protocol != "base2new":
        return runs.groupby("seed")[["accuracy"]].mean()
    frame = runs.pivot_table(index="seed", columns="part", values="accuracy").reindex(columns=["base", "new"])
    return with_harmonic_mean(frame)


def summarize(frames: Sequence[pd.DataFrame], measures: Sequence[str]) -> tuple[dict[str, Value], list[int]]:
    """Average over data sets, then over seeds.

    The harmonic mean is that of the mean accuracies, as the papers publish it. Its spread is that over seeds.

    Args:
        frames: the result of `by_seed` for each data set.

    Returns:
        The value of each measure, and the seeds that all data sets have.
    """
    frames = [some for frame in frames if len(some := frame.dropna(how="all"))]
    means = pd.DataFrame([frame.mean() for frame in frames]).mean()
    seeds = sorted(set.intersection(*(set(frame.index) for frame in frames))) if frames else []
    averages = sum(frame.loc[seeds] for frame in frames) / max(1, len(frames))  # a row for each seed
    values = dict.fromkeys(measures, Value())
    if "hm" in means:
        means["hm"] = harmonic_mean(means["base"], means["new"])
        averages = with_harmonic_mean(averages)
    for name, mean in means.items():
        values[str(name)] = _with_spread(float(mean), averages[name].dropna())
    return values, [int(seed) for seed in seeds]


def _with_spread(mean: float, by_seed: pd.Series) -> Value:
    from scipy import stats  # imported here: it takes a second, and many reports have one seed

    count = len(by_seed)
    if math.isnan(mean) or count < 2:
        return Value(None if math.isnan(mean) else mean)
    std = float(by_seed.std())
    return Value(mean, std, float(stats.t.ppf(0.975, count - 1) * std / math.sqrt(count)))
