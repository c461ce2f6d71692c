"""`ScalarLog` writes losses and results to TensorBoard. `TrainerBase` derives from it."""

import os
from typing import TYPE_CHECKING

from dassl.utils.files import report_full_disk

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ScalarLog:
    """A base class with a TensorBoard writer, which is open between `init_writer` and `close_writer`."""

    _writer: "SummaryWriter | None" = None

    def init_writer(self, log_dir: str) -> None:
        """Open the TensorBoard writer if it isn't open yet."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            with report_full_disk(log_dir):
                os.makedirs(log_dir, exist_ok=True)
                self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self) -> None:
        """Close the TensorBoard writer if it is open."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with report_full_disk(writer.log_dir):
                writer.close()

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write a value to TensorBoard if the writer is open."""
        if self._writer is not None:
            with report_full_disk(self._writer.log_dir):  # here, the writer's thread reports its errors
                self._writer.add_scalar(tag, scalar_value, global_step)
