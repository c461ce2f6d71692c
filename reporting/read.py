"""Reads the results of runs into one table. report.py calls `read`.

A folder with a result.json holds a finished run. A folder with a config.yaml but no result.json holds an interrupted
run. If the folder belongs to a sweep, its sweep.json also lists the planned runs that have no result yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from yacs.config import CfgNode

from dassl.utils.errors import InputError
from dassl.utils.files import read_json
from reporting import protocols

Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run, as a row of the table of runs. A field without a value in result.json is None or NaN."""

    trainer: str
    config: str
    dataset: str
    part: str  # the tested classes: "base", "new" or "all"
    shots: int
    seed: int
    trained_on: str | None  # the training data set; "" if the method learns nothing, None if unknown
    protocol: str  # a key of protocols.MEASURES
    backbone: str | None
    test_only: bool
    accuracy: float  # NaN for an unfinished run
    depth: int | None  # number of layers with prompts (PROMPT_DEPTH)
    length: int | None  # number of context tokens (N_CTX)
    state: str  # "finished", "failed", "cut off" (interrupted) or "to do" (planned)
    error: str  # message of a failed run, else ""
    folder: str
    role: str = ""  # see protocols.assign


COLUMNS = [field.name for field in fields(Run) if field.name != "role"]
#: Columns that identify a run. Rows with the same values in all these columns are duplicates.
IDENTITY = COLUMNS[: COLUMNS.index("protocol") + 1]


class ReportError(Exception):
    """Raised if there is nothing to report or a file can't be read. The message is one line for the user."""


def read(folder: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """Read all runs below a folder. If the folder belongs to a sweep, read only the sweep's runs.

    Returns:
        A table with the fields of `Run` as columns, and a note for each finished run that was left out as a duplicate.

    Raises:
        ReportError: the folder doesn't exist, or holds no run, or holds an invalid result.json or sweep.json.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"the folder {folder} doesn't exist")
    runs: dict[Path, Json] = {}
    plans = [folder / "sweep.json"] if (folder / "sweep.json").is_file() else sorted(folder.glob("**/sweep.json"))
    for plan in plans:
        runs |= {run["folder"]: run for run in _planned_runs(plan)}
    if plans != [folder / "sweep.json"]:
        found = {path.parent.resolve() for name in ("result.json", "config.yaml") for path in folder.rglob(name)}
        runs |= {path: {"folder": path} for path in sorted(found - set(runs))}
    rows = [row for run in runs.values() if (row := _row(run))]
    if not rows:
        raise ReportError(f"no run below {folder}: it holds no result.json, and no sweep.json with planned runs")
    table = protocols.assign(_name_by_options(pd.DataFrame(rows)).drop(columns="options"))
    return _without_duplicates(table)


def records(runs: pd.DataFrame) -> list[Run]:
    """Return the rows of a table of runs as `Run` objects."""
    return [Run(*values) for values in runs[[*COLUMNS, "role"]].itertuples(index=False, name=None)]


def _planned_runs(plan: Path) -> Iterator[Json]:
    for run in _read_json(plan)["runs"]:
        planned = run["fields"] if "fields" in run else run["facts"]  # older versions wrote the key `facts`
        folder = (plan.parent / run["folder"]).resolve()
        yield planned | {"folder": folder, "state": run["state"], "error": run["error"]}


def _row(run: Json) -> Json | None:
    """Return a run's row for the table of runs. The run is planned, finished or interrupted.

    Returns None if the folder doesn't belong to a run, or if the run tested validation images.
    """
    folder = run["folder"]
    row: Json = dict.fromkeys(COLUMNS) | {"accuracy": float("nan"), "state": "to do", "error": ""}
    row |= {"part": "all", "test_only": False} | run
    if (folder / "result.json").is_file():
        result = _read_json(folder / "result.json")
        if not {"dataset", "trainer", "seed", "accuracy"} <= set(result):
            raise ReportError(
                f"{folder / 'result.json'} isn't a result: the key dataset, trainer, seed or accuracy is missing"
            )
        if result.get("split", "test") != "test":
            return None
        row |= result | {"state": "finished", "error": ""}
    elif not run.get("trainer"):  # neither planned nor finished
        interrupted = _fields_of_config(folder)
        if interrupted is None:
            return None
        row |= interrupted | {"state": "cut off"}
    row["part"] = row.get("subsample_classes") or "all"
    options = row.get("options") or {}
    for name, start in (("depth", "PROMPT_DEPTH"), ("length", "N_CTX")):
        row[name] = max((value for key, value in options.items() if key.startswith(start)), default=None)
    return {name: row[name] for name in COLUMNS} | {"options": options, "folder": str(folder)}


def _fields_of_config(folder: Path) -> Json | None:
    """Read the fields of a run without a result from its config.yaml. Returns None if the file isn't a run's config."""
    from dassl.engine.run_folder import dataset_label  # imported here because only unfinished runs need it

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
            "protocol": cfg.get("PROTOCOL", ""),
            "backbone": cfg["MODEL"]["BACKBONE"]["NAME"],
            "shots": data["NUM_SHOTS"],
            "seed": cfg["SEED"],
        }
    except (AttributeError, KeyError, TypeError, yaml.YAMLError):
        return None


def _read_json(path: Path) -> Json:
    try:
        return read_json(path)
    except InputError as error:
        raise ReportError(str(error)) from error


def _name_by_options(runs: pd.DataFrame) -> pd.DataFrame:
    """Rename configs that have the same name, but were run with different options or backbones.

    The options that differ are appended to the config's name, for example "vit_b16 N_CTX=4".
    """
    for _, group in runs[runs["options"].map(bool)].groupby(["trainer", "config"], dropna=False):
        settings = [
            options | {"backbone": name} for options, name in zip(group["options"], group["backbone"], strict=True)
        ]
        names = sorted(set().union(*settings))
        differing = [name for name in names if len({repr(setting.get(name)) for setting in settings}) > 1]
        for index, setting in zip(group.index, settings, strict=True):
            runs.loc[index, "config"] += "".join(f" {name}={setting.get(name)}" for name in differing)
    return runs


def _without_duplicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Drop duplicate runs. If a finished run and an unfinished run are duplicates, the finished run is kept.

    Returns the remaining runs, and a note for each finished run that was dropped.
    """
    runs = runs.sort_values("state", key=lambda state: state != "finished", kind="stable")
    # If a run tested base or new classes, `trained_on` can only be the tested data set, so ignore this column.
    source = runs["trained_on"].fillna("").where(runs["part"] == "all", "")
    duplicate = runs.assign(trained_on=source).fillna({"config": ""}).duplicated(IDENTITY)
    dropped = runs[duplicate & (runs["state"] == "finished")]
    notes = [f"left out {folder}, because it has the same settings as another run" for folder in dropped["folder"]]
    return runs[~duplicate].sort_index().reset_index(drop=True), notes
