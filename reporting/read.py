"""Reads the results of runs into one table. report.py calls `read`.

A folder with a result.json holds a finished run. A folder with a config.yaml but no result.json holds an interrupted
run. If the folder belongs to a sweep, its sweep.json also lists the planned runs that have no result yet. A run whose
files are damaged is left out, with a note.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from dassl.config import read_saved_config
from dassl.engine.formats import RunFields, SweepFile, read_result
from dassl.engine.run_folder import dataset_label
from dassl.utils.command_line import one_line
from dassl.utils.errors import InputError
from dassl.utils.typed import read_json_as
from reporting import protocols

#: A row of the table of runs: {column: value}.
Fields = dict[str, Any]
#: A number of layers or tokens above this limit in a result's options isn't plausible, so plots don't show it.
_MOST = 10_000


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
    macro_f1: float | None
    top5_accuracy: float | None
    ece: float | None  # expected calibration error
    depth: int | None  # number of layers with prompts (PROMPT_DEPTH)
    length: int | None  # number of context tokens (N_CTX)
    state: str  # "finished", "failed", "cut off" (interrupted) or "to do" (planned)
    error: str  # message of a failed run, else ""
    folder: str
    role: str = ""  # see protocols.assign


COLUMNS = [field.name for field in fields(Run) if field.name != "role"]
#: Columns that identify a run. Rows with the same values in all these columns are duplicates.
IDENTITY = COLUMNS[: COLUMNS.index("protocol") + 1]


class ReportError(InputError):
    """Raised if there is nothing to report or a file can't be read. The message is one line for the user."""


def read(folder: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """Read all runs below a folder. If the folder belongs to a sweep, read only the sweep's runs.

    Returns:
        A table with the fields of `Run` as columns; and a note for each run that was left out, because it is damaged or
        a duplicate.

    Raises:
        ReportError: the folder doesn't exist, or holds no run. The message also says which runs are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"the folder {folder} doesn't exist")
    notes: list[str] = []
    runs: dict[Path, Fields] = {}
    plans = [folder / "sweep.json"] if (folder / "sweep.json").is_file() else sorted(folder.glob("**/sweep.json"))
    for plan in plans:
        with _noting(notes):
            runs |= {run["folder"]: run for run in _planned_runs(plan)}
    if plans != [folder / "sweep.json"]:
        found = {path.parent.resolve() for name in ("result.json", "config.yaml") for path in folder.rglob(name)}
        runs |= {path: {"folder": path} for path in sorted(found - set(runs))}
    rows = []
    for run in runs.values():
        with _noting(notes):
            rows += [row] if (row := _row(run)) else []
    if not rows:
        reason = f"no run below {folder}: it holds no result.json, and no sweep.json with planned runs"
        raise ReportError("; ".join([reason, *notes[:3]]))
    table = protocols.assign(_name_by_options(pd.DataFrame(rows)).drop(columns="options"))
    table, duplicates = _without_duplicates(table)
    return table, [*notes, *duplicates]


@contextlib.contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """A context manager that turns an error about one run into a note."""
    try:
        yield
    except (InputError, OSError) as error:
        notes.append(f"left out a damaged run: {one_line(error)}")


def records(runs: pd.DataFrame) -> list[Run]:
    """Return the rows of a table of runs as `Run` objects."""
    return [Run(*values) for values in runs[[*COLUMNS, "role"]].itertuples(index=False, name=None)]


def _planned_runs(plan: Path) -> Iterator[Fields]:
    for run in read_json_as(plan, SweepFile, "file of a sweep").runs:
        known = run.facts or run.fields
        planned = _plain(known) if known else {}
        yield planned | {"folder": (plan.parent / run.folder).resolve(), "state": run.state, "error": run.error}


def _row(run: Fields) -> Fields | None:
    """Return a run's row for the table of runs. The run is planned, finished or interrupted.

    Returns None if the folder doesn't belong to a run, or if the run tested validation images.
    """
    folder = run["folder"]
    row: Fields = dict.fromkeys(COLUMNS) | {"accuracy": float("nan"), "state": "to do", "error": ""}
    row |= {"test_only": False, "subsample_classes": "all"} | run
    options: Mapping[str, Any] = {}
    if (folder / "result.json").is_file():
        result = read_result(folder)
        if result.split != "test":
            return None
        row |= _plain(result) | {"state": "finished", "error": ""}
        options = result.options
    elif not run.get("trainer"):  # neither planned nor finished
        interrupted = _fields_of_config(folder)
        if interrupted is None:
            return None
        row |= interrupted | {"state": "cut off"}
    row["part"], row["config"] = row["subsample_classes"], row["config"] or ""
    for name, start in (("depth", "PROMPT_DEPTH"), ("length", "N_CTX")):
        numbers = [value for key, value in options.items() if key.startswith(start) and type(value) is int]
        row[name] = max((number for number in numbers if 0 <= number <= _MOST), default=None)
    return {name: row[name] for name in COLUMNS} | {"options": options, "folder": str(folder)}


def _plain(fields: RunFields) -> Fields:
    """Return the fields that the table of runs has as a dict."""
    kept = {*COLUMNS, "subsample_classes"}
    return {name: value for name, value in msgspec.structs.asdict(fields).items() if name in kept}


def _fields_of_config(folder: Path) -> Fields | None:
    """Read the fields of a run without a result from its config.yaml. Returns None if the file isn't a run's config.

    Raises:
        InputError: the file is damaged, or a value has the wrong type.
    """
    if not (folder / "config.yaml").is_file():
        return None
    cfg = read_saved_config(folder / "config.yaml")
    try:
        name = dataset_label(cfg)
        fields = {
            "dataset": name,
            "trained_on": None if cfg.TEST.EVAL_ONLY else name,
            "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "trainer": cfg.TRAINER.NAME,
            "config": cfg.TRAINER.CONFIG,
            "protocol": cfg.get("PROTOCOL", ""),
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
        }
    except (AttributeError, KeyError, TypeError):
        return None
    try:
        return _plain(msgspec.convert(fields, RunFields))
    except msgspec.ValidationError as error:
        raise InputError(f"{folder / 'config.yaml'} isn't a run's config: {one_line(error)}") from error


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
