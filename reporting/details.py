"""Makes the tables of all scores: accuracy, macro F1, top-5 accuracy and calibration error. report.py calls `show`.

A table has a row for every method, data set and part of the classes (base, new or all). The results of older
versions of the project lack some scores.
"""

import pandas as pd

from reporting.measures import Value, with_spread
from reporting.protocols import of_protocol
from reporting.tables import render, value_text

#: {column of the table of runs: title}. All scores are in per cent.
SCORES = {
    "accuracy": "accuracy", "macro_f1": "macro F1", "top5_accuracy": "top-5 accuracy", "ece": "calibration error",
}  # fmt: skip
_KEYS = ["trainer", "config", "backbone", "dataset", "part", "shots"]


def show(runs: pd.DataFrame, protocol: str, form: str) -> str:
    """Return the table of a protocol as text. It shows each score's mean and standard deviation over seeds.

    Args:
        form: the format, as in `tables.show`. The formats csv and json have the keys `<score>` and `<score>_std`.
    """
    content: list[dict[str, object]] = []
    texts: list[dict[str, str]] = []
    finished = of_protocol(runs, protocol)
    finished = finished[finished["state"] == "finished"]
    if finished.empty and form not in ("csv", "json"):
        return "No run is finished."
    for key, group in finished.groupby(_KEYS, sort=False, dropna=False):
        identity = {name: "" if pd.isna(part) else part for name, part in zip(_KEYS, key, strict=True)}
        identity["shots"] = int(identity["shots"])
        seeds = [int(seed) for seed in sorted(set(group["seed"]))]
        values = {name: _value(group, name) for name in SCORES}
        content.append(dict(identity))
        for name, value in values.items():
            content[-1] |= {name: value.mean, f"{name}_std": value.std}
        content[-1]["seeds"] = seeds
        shown = {SCORES[name]: value_text(value) for name, value in values.items()}
        row = {name: str(part) for name, part in identity.items()} | shown | {"seeds": " ".join(map(str, seeds))}
        texts.append({title: " ".join(text.split()) for title, text in row.items()})  # a cell is one line
    return render(content, texts, form)


def _value(runs: pd.DataFrame, score: str) -> Value:
    """Return the mean and the spread over seeds. The mean is None if no run has this score."""
    by_seed = runs.assign(score=pd.to_numeric(runs[score])).groupby("seed")["score"].mean().dropna()
    return with_spread(float(by_seed.mean()), by_seed)
