"""`ScalarLog` passes losses and results to the loggers of TRAIN.LOGGERS. `TrainerBase` derives from it."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from yacs.config import CfgNode

from dassl.engine.loggers import RunLogger, TensorBoard, find_loggers, open_logger
from dassl.utils.files import DiskFullError, report_full_disk
from dassl.utils.tools import restored_generators


class ScalarLog:
    """A base class with loggers, which are open between `open_loggers` and `close_writer`."""

    cfg: CfgNode
    _loggers: Mapping[str, RunLogger] = {}  # {name: open logger}

    def open_loggers(self, folder: str | Path) -> None:
        """Open the loggers that TRAIN.LOGGERS names, each in a subfolder of the output folder `folder`.

        Raises:
            InputError: a logger is unknown, can't be opened, or its package isn't installed.
        """
        with restored_generators():
            self._loggers = {
                name: self._loggers.get(name) or open_logger(cls, Path(folder) / name, self.cfg)
                for name, cls in find_loggers(self.cfg).items()
            }

    def init_writer(self, log_dir: str) -> None:
        """Open TensorBoard's logger in the folder `log_dir`, unless it is open. Third-party trainers may call this."""
        if "tensorboard" not in self._loggers:
            opened = open_logger(TensorBoard, Path(log_dir), self.cfg)
            self._loggers = {**self._loggers, "tensorboard": opened}

    def close_writer(self) -> None:
        """Close all loggers."""
        for name, logger in self._loggers.items():
            with self._without_failing(name):
                logger.close()
        self._loggers = {}

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write a value to all loggers. See `RunLogger.write`."""
        self.write_scalars({tag: scalar_value}, global_step)

    def write_scalars(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Write several values of the same step to all loggers. See `RunLogger.write`."""
        for name, logger in list(self._loggers.items()):
            with self._without_failing(name):
                logger.write(values, step)

    @contextlib.contextmanager
    def _without_failing(self, name: str) -> Iterator[None]:
        """A context manager that switches off a logger if it raises an error. Only a full disk is still an error."""
        try:
            with report_full_disk(Path(self.cfg.OUTPUT_DIR) / name):  # TensorBoard's thread reports its errors here
                yield
        except DiskFullError:
            raise
        except Exception as error:  # a service can raise any error
            reason = " ".join(str(error).split())
            print(f"Warning: the logger {name} is switched off, because it failed: {type(error).__name__}: {reason}")
            self._loggers = {other: logger for other, logger in self._loggers.items() if other != name}
