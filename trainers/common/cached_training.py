"""The class `CachedTrainer`, which trains on image features that are computed once. The image tower must be frozen.

With CACHED_PASSES = n, the trainer computes the features of n augmentations of all training images. Epoch e trains on
the features of augmentation e modulo n. With 0, each epoch encodes newly augmented images, as the official codes do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dassl.config import Count, described
from dassl.utils.tools import restored_generators
from trainers.common.features import LabelledFeatures
from trainers.common.method import Batch
from trainers.common.options import Options, node_of
from trainers.common.trainer import PromptTrainer


@dataclass(frozen=True)
class CachedOptions(Options):
    """The options of methods that a `CachedTrainer` trains."""

    CACHED_PASSES: Count = described(
        0, "number of augmentations whose features are computed once; 0: encode all images each epoch"
    )


class CachedTrainer(PromptTrainer):
    """A trainer that can train on cached image features. `options` must be a subclass of `CachedOptions`."""

    _passes: dict[int, LabelledFeatures]  # {number of the augmentation: features, on the device}

    @property
    def n_passes(self) -> int:
        """The number of augmentations whose features are cached. 0: none."""
        return self.cfg.TRAINER[node_of(type(self))].CACHED_PASSES

    def build_model(self) -> None:
        self._passes = {}
        super().build_model()

    def run_epoch(self) -> None:
        if not self.n_passes or not self.model.has_loop:
            super().run_epoch()
            return
        size, keeps_last = self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE, self.cfg.DATALOADER.KEEP_LAST
        features, labels = self._pass(self.epoch % self.n_passes)
        order = torch.randperm(len(labels), device="cpu").to(features.device)  # `seed_epoch` has seeded the generator
        parts = list(order.split(size))
        if len(parts) > 1 and len(parts[-1]) < size and not keeps_last:
            parts.pop()
        self.run_batches(self._batches(features, labels, parts), len(parts))

    def _batches(self, features: torch.Tensor, labels: torch.Tensor, parts: list[torch.Tensor]) -> Iterator[tuple]:
        for rows in parts:
            yield ({"img": features[rows], "label": labels[rows]},)

    def _pass(self, number: int) -> LabelledFeatures:
        if number not in self._passes:
            self.model.eval()
            with restored_generators():  # a resumed run encodes in another epoch, but must draw the same batches
                found = self._training_features().augmented(number)
            self._passes[number] = LabelledFeatures(*(part.to(self.device) for part in found))
            self.model.train()
        return self._passes[number]

    def read_batch(self, batch: dict) -> Batch:
        if isinstance(batch["img"], torch.Tensor) and batch["img"].ndim == 2:
            return Batch(batch["img"], batch["label"], (batch["img"],))
        return super().read_batch(batch)
