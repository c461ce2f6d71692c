"""Loggers write a run's losses and results to TensorBoard, Weights & Biases or MLflow. TRAIN.LOGGERS names them.

`ScalarLog` (`scalars.py`) opens the loggers at the start of a training, and passes all values to each of them. To add a
logger, register a subclass of `RunLogger` in a plugin's file. TRAIN.LOGGERS ignores case in names.
"""

import importlib.util
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import yaml
from yacs.config import CfgNode

from dassl.config import keys
from dassl.engine.run_folder import dataset_label
from dassl.utils.errors import InputError
from dassl.utils.files import DiskFullError, report_full_disk, write_text
from dassl.utils.plugins import find
from dassl.utils.registry import Registry

LOGGER_REGISTRY = Registry("LOGGER")
PROJECT = "prompt-learning"  # default name of the project (wandb) or the experiment (MLflow)


class RunLogger:
    """The base class of loggers. The constructor opens the logger.

    If a logger raises an error later, it is switched off with a warning, and the training continues.

    Args:
        folder: the logger's folder, `<OUTPUT_DIR>/<name>`. It may not exist, or may be the one of a resumed run.
        cfg: the run's config.
    """

    module = ""  # module that the logger needs; "": none
    package = ""  # name of the package to install for this module

    def __init__(self, folder: Path, cfg: CfgNode):
        raise TypeError(f"{type(self).__name__} must define __init__")

    def write(self, values: Mapping[str, float], step: int | None) -> None:
        """Write values by tag, such as "train/loss" or "val/accuracy".

        `step` is the index of the batch for tags that start with "train/", and the index of the epoch for others.
        """
        raise TypeError(f"{type(self).__name__} must define write")

    def close(self) -> None:
        """Write what isn't written yet. Called after the training's result is stored, and if the training fails."""


def find_loggers(cfg: CfgNode) -> dict[str, type[RunLogger]]:
    """Return {folder name: class} of the loggers that TRAIN.LOGGERS names.

    Raises:
        InputError: there is no such logger, or its package isn't installed.
    """
    known = {name.lower(): name for name in LOGGER_REGISTRY.registered_names()}
    found: dict[str, type[RunLogger]] = {}
    for name in cfg.TRAIN.LOGGERS:
        cls = find(LOGGER_REGISTRY, "logger (TRAIN.LOGGERS)", known.get(name.lower(), name))
        if cls.module and not _is_installed(cls.module):
            raise InputError(
                f"TRAIN.LOGGERS names {name}, but its package isn't installed. Run: pip install {cls.package}"
            )
        found[name.lower()] = cls
    return found


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # without origin: a folder of this name, such as wandb's logs


def open_logger(cls: type[RunLogger], folder: Path, cfg: CfgNode) -> RunLogger:
    """Return a new logger. Raises InputError if it can't be opened, or DiskFullError."""
    try:
        with report_full_disk(folder):
            return cls(folder, cfg)
    except (InputError, DiskFullError):
        raise
    except Exception as error:  # a service can raise any error
        reason = " ".join(str(error).split())
        raise InputError(
            f"can't open the logger {cls.__name__} (TRAIN.LOGGERS): {type(error).__name__}: {reason}"
        ) from error


@LOGGER_REGISTRY.register()
class TensorBoard(RunLogger):
    """Writes event files for TensorBoard."""

    def __init__(self, folder: Path, cfg: CfgNode):
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        folder.mkdir(parents=True, exist_ok=True)
        self.writer = SummaryWriter(log_dir=str(folder))

    def write(self, values: Mapping[str, float], step: int | None) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self.writer.close()


@LOGGER_REGISTRY.register()
class WandB(RunLogger):
    """Logs to Weights & Biases. wandb's environment variables choose the project, the account and the mode.

    With WANDB_MODE=offline, the run is stored in the logger's folder, and `wandb sync` uploads it later.
    """

    module = package = "wandb"

    def __init__(self, folder: Path, cfg: CfgNode):
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=_name(cfg),
            id=_stored_id(folder) or _store_id(uuid.uuid4().hex[:8], folder),
            resume="allow",  # a resumed run continues its curves
            dir=str(folder.parent),  # wandb adds a folder named wandb, which is `folder`
            config=yaml.safe_load(cfg.dump()),
            settings=wandb.Settings(console="off"),  # the run has a log of its own
        )
        # wandb's own steps must never decrease, but ours are batches or epochs, and a resumed run repeats some.
        for group in ("train", "val", "test"):
            self.run.define_metric(f"{group}/*", step_metric=f"{group}/step")

    def write(self, values: Mapping[str, float], step: int | None) -> None:
        row = dict(values)
        if step is not None:
            row |= {f"{tag.partition('/')[0]}/step": step for tag in values}
        self.run.log(row)

    def close(self) -> None:
        self.run.finish()


@LOGGER_REGISTRY.register()
class MLflow(RunLogger):
    """Logs to MLflow. MLFLOW_TRACKING_URI names the server; without it, the run is stored in the logger's folder."""

    module, package = "mlflow", "mlflow-skinny"
    _DELAY = 5.0  # seconds between two writes, because a server needs milliseconds for each
    _BATCH_SIZE = 500  # values of one write; a server accepts 1,000

    def __init__(self, folder: Path, cfg: CfgNode):
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else, MLflow refuses to store files in a folder
            uri = (folder / "store").absolute().as_uri()
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.client = MlflowClient(tracking_uri=uri)
        self.waiting: list[Metric] = []
        self.written = time.monotonic()
        run_id = _stored_id(folder)
        if run_id:
            self.client.update_run(run_id, status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self.client.get_experiment_by_name(name)
            experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
            run_id = _store_id(self.client.create_run(experiment_id, run_name=_name(cfg)).info.run_id, folder)
            params = [Param(key, str(value)[:6000]) for key, value in keys(cfg)]  # MLflow's limit
            for start in range(0, len(params), 100):  # MLflow's limit
                self.client.log_batch(run_id, params=params[start : start + 100])
        self.run_id = run_id

    def write(self, values: Mapping[str, float], step: int | None) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.waiting += [Metric(tag, float(value), now, step or 0) for tag, value in values.items()]
        if len(self.waiting) >= self._BATCH_SIZE or time.monotonic() > self.written + self._DELAY:
            self._flush()

    def _flush(self) -> None:
        waiting, self.waiting, self.written = self.waiting, [], time.monotonic()
        for start in range(0, len(waiting), self._BATCH_SIZE):
            self.client.log_batch(self.run_id, metrics=waiting[start : start + self._BATCH_SIZE])

    def close(self) -> None:
        self._flush()
        self.client.set_terminated(self.run_id)


def _name(cfg: CfgNode) -> str:
    """Return the name that services show for a run."""
    return f"{cfg.TRAINER.NAME} {dataset_label(cfg)} {cfg.DATASET.SUBSAMPLE_CLASSES} seed{cfg.SEED}"


def _stored_id(folder: Path) -> str:
    """Return the service's id of the run, with which a resumed run continues. Returns "" for a new run."""
    path = folder / "run_id.txt"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _store_id(run_id: str, folder: Path) -> str:
    write_text(run_id + "\n", folder / "run_id.txt")
    return run_id
