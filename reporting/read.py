"""Reads the results of runs: result.json files, and the sweep.json of sweeps for what should be there and is not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from yacs.config import CfgNode

#: What a run is told apart by; `part` is base, new or all.
IDENTITY = ["trainer", "config", "dataset", "part", "shots", "seed", "trained_on"]
COLUMNS = [*IDENTITY, "backbone", "test_only", "accuracy", "depth", "length", "state", "error", "folder"]


class ReportError(Exception):
    """There is nothing to report, or it can't be read; told in one line."""


def read(folder: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """All runs below a folder (of a sweep's folder: the sweep's), and notes on what was left out.

    The table has COLUMNS and a row a run: `state` is finished, failed (with its `error`), cut off or to do; of runs
    that are not finished `accuracy` is NaN.

    Raises:
        ReportError: no such folder, no run in it, or a file that is no result.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"no folder {folder}")
    runs: dict[Path, dict[str, Any]] = {}
    plans = [folder / "sweep.json"] if (folder / "sweep.json").is_file() else sorted(folder.glob("**/sweep.json"))
    for plan in plans:
        runs |= {run["folder"]: run for run in _planned(plan)}
    if plans != [folder / "sweep.json"]:
        found = {path.parent.resolve() for name in ("result.json", "config.yaml") for path in folder.rglob(name)}
        runs |= {path: {"folder": path} for path in sorted(found - set(runs))}
    rows = [row for run in runs.values() if (row := _row(run))]
    if not rows:
        raise ReportError(f"no run below {folder}: no result.json, and no sweep.json that plans one")
    return _distinct(pd.DataFrame(rows))


def _planned(plan: Path) -> Iterator[dict[str, Any]]:
    for run in _json(plan)["runs"]:
        yield run["facts"] | {
            "folder": (plan.parent / run["folder"]).resolve(),
            "state": run["state"],
            "error": run["error"],
        }


def _row(run: dict[str, Any]) -> dict[str, Any] | None:
    """A row for a run that is planned, finished or begun; none where it tested validation images."""
    folder = run["folder"]
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"accuracy": float("nan"), "state": "to do", "error": ""}
    row |= {"part": "all", "test_only": False} | run
    if (folder / "result.json").is_file():
        result = _json(folder / "result.json")
        if not {"dataset", "trainer", "seed", "accuracy"} <= set(result):
            raise ReportError(f"{folder / 'result.json'} is no result: it lacks dataset, trainer, seed or accuracy")
        if result.get("split", "test") != "test":
            return None
        row |= result | {"state": "finished", "error": ""}
    elif not run.get("trainer"):  # nobody planned it, and it has no result
        begun = _begun(folder)
        if begun is None:
            return None
        row |= begun | {"state": "cut off"}
    row["part"] = row.get("subsample_classes") or "all"
    options = row.get("options") or {}
    for name, start in (("depth", "PROMPT_DEPTH"), ("length", "N_CTX")):
        row[name] = max((value for key, value in options.items() if key.startswith(start)), default=None)
    return {name: row[name] for name in COLUMNS} | {"options": options, "folder": str(folder)}


def _begun(folder: Path) -> dict[str, Any] | None:
    """What the config of a run without a result says; None where it is of no run."""
    from dassl.engine.run_folder import dataset_label  # imports torch, for unfinished runs alone

    try:
        cfg = yaml.safe_load((folder / "config.yaml").read_text())
        data, trains = cfg["DATASET"], not cfg["TEST"]["EVAL_ONLY"]
        name = dataset_label(CfgNode(cfg))
        return {
            "dataset": name,
            "trained_on": name if trains else None,
            "subsample_classes": data["SUBSAMPLE_CLASSES"],
            "trainer": cfg["TRAINER"]["NAME"],
            "config": cfg["TRAINER"]["CONFIG"],
            "backbone": cfg["MODEL"]["BACKBONE"]["NAME"],
            "shots": data["NUM_SHOTS"],
            "seed": cfg["SEED"],
        }
    except (AttributeError, KeyError, TypeError, yaml.YAMLError):
        return None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ReportError(f"{path} is not valid JSON: {error}") from error


def _distinct(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Name configs that were run with several options or backbones by these; of what is there twice nonetheless keep
    one, a finished one if there is."""
    for _, group in runs[runs["options"].map(bool)].groupby(["trainer", "config"], dropna=False):
        facts = [
            options | {"backbone": name} for options, name in zip(group["options"], group["backbone"], strict=True)
        ]
        names = sorted(set().union(*facts))
        differing = [name for name in names if len({repr(fact.get(name)) for fact in facts}) > 1]
        for index, fact in zip(group.index, facts, strict=True):
            runs.loc[index, "config"] += "".join(f" {name}={fact.get(name)}" for name in differing)
    runs = runs.drop(columns="options").sort_values("state", key=lambda state: state != "finished", kind="stable")
    source = runs["trained_on"].fillna("").where(runs["part"] == "all", "")  # who tests base or new has learned there
    twice = runs.assign(trained_on=source).fillna({"config": ""}).duplicated(IDENTITY)
    left_out = runs[twice & (runs["state"] == "finished")]
    notes = [f"left out: {folder} repeats another" for folder in left_out["folder"]]
    return runs[~twice].sort_index().reset_index(drop=True), notes
