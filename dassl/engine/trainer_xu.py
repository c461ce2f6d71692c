"""`TrainerXU` trains on labelled and unlabelled batches together. Third-party trainers derive from it."""

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from dassl.engine.trainer import SimpleTrainer
from dassl.utils.errors import unknown


class TrainerXU(SimpleTrainer):
    """A trainer that trains on pairs of batches. Each pair has a labelled batch and an unlabelled batch.

    A subclass defines `forward_backward(batch_x, batch_u)`. TRAIN.COUNT_ITER selects the loader that sets the length of
    an epoch. The other loader restarts as often as needed.
    """

    def run_epoch(self) -> None:
        x = self._present(self.train_loader_x, "labelled training")
        u = self._present(self.train_loader_u, "unlabelled training")
        lengths = {"train_x": len(x), "train_u": len(u), "smaller_one": min(len(x), len(u))}
        if self.cfg.TRAIN.COUNT_ITER not in lengths:
            raise unknown("length of an epoch (TRAIN.COUNT_ITER)", self.cfg.TRAIN.COUNT_ITER, lengths)
        num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        pairs = zip(_endless(x), _endless(u), strict=False)
        self.run_batches(itertools.islice(pairs, num_batches), num_batches)

    def parse_batch_train(self, batch_x: dict, batch_u: dict) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        """Return the labelled images, their labels and the unlabelled images, on the device."""
        return tuple(t.to(self.device) for t in (batch_x["img"], batch_x["label"], batch_u["img"]))


def _endless(loader: DataLoader) -> Iterator[dict]:
    """Yield the loader's batches without end. Restart the loader each time it ends."""
    while True:
        yield from loader
