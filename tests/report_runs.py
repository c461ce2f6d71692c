"""Writes folders of results for the tests of report.py."""

import json
from pathlib import Path


def write_result(folder: Path, **fields) -> None:
    """Write a result.json as a run of MaPLe on base classes does, with `fields` changed."""
    result = {
        "dataset": "DescribableTextures", "trained_on": "DescribableTextures", "test_only": False, "split": "test",
        "subsample_classes": "base", "trainer": "MaPLe", "backbone": "ViT-B/16", "config": "vit_b16", "shots": 16,
        "options": {"PROMPT_DEPTH": 9, "N_CTX": 2}, "seed": 1, "macro_f1": 50.0,
    } | fields  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))


def write_base2new(folder: Path, accuracies: dict[tuple[str, int], tuple[float, float]], **fields) -> None:
    """Write results on base and new classes: accuracies[data set, seed] = base, new."""
    for (dataset, seed), pair in accuracies.items():
        for part, accuracy in zip(("base", "new"), pair, strict=True):
            place = folder / part / dataset / fields.get("trainer", "MaPLe") / f"seed{seed}"
            write_result(place, dataset=dataset, subsample_classes=part, seed=seed, accuracy=accuracy, **fields)


ACCURACIES = {
    ("DescribableTextures", 1): (80.0, 60.0), ("DescribableTextures", 2): (82.0, 56.0),
    ("DescribableTextures", 3): (81.0, 58.0), ("EuroSAT", 1): (92.0, 70.0), ("EuroSAT", 2): (95.0, 75.0),
    ("EuroSAT", 3): (94.0, 68.0),
}  # fmt: skip
