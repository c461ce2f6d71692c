"""`ModelTester` tests the model on the validation or the test images. `SimpleTrainer` derives from it."""

import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from dassl import distributed
from dassl.data.shares import loader_of_share
from dassl.engine.base import TrainerBase
from dassl.engine.finite import check_logits
from dassl.evaluation import EvaluatorBase
from dassl.utils.errors import InputError, unknown


class ModelTester(TrainerBase):
    """A trainer that tests its model with the evaluator of the config."""

    model: nn.Module
    device: torch.device
    evaluator: EvaluatorBase
    val_loader: DataLoader | None
    test_loader: DataLoader | None

    # These are class attributes because some third-party trainers don't call `__init__`.
    tested_split = ""  # split of the last test
    test_seconds = 0.0  # duration of the last test in seconds
    tested_paths: Sequence[str] = ()  # paths of the images of the last test, in the order of the logits
    tested_scores: Mapping[str, float] = {}  # results of the last test, as the evaluator has named them

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate the model and print the results.

        Args:
            split: "val" or "test"; TEST.SPLIT by default.

        Returns:
            The evaluator's first result, which is used to compare models.

        Raises:
            InputError: `split` isn't the name of a split, or the split has no images.
            FloatingPointError: the logits of an image are infinite or NaN. The message names the image.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split not in ("val", "test"):
            raise unknown("split (TEST.SPLIT)", split, ("val", "test"))
        self.tested_split = split
        loader = self._present(self.val_loader if split == "val" else self.test_loader, split)
        print(f"Evaluate on the *{split}* set")
        started, paths = time.time(), []
        own = self.predictions(loader, split)
        for output, label, impath in distributed.predictions_in_order(own, len(loader)):
            paths += impath
            check_logits(output, impath)
            self.evaluator.process(output, label)
        self.test_seconds, self.tested_paths = time.time() - started, paths
        results = distributed.on_main(self.evaluator.evaluate)  # the main process has the predictions of all
        self.tested_scores = {name: float(value) for name, value in results.items()}
        epoch = self.epoch if split == "val" else max(self.tested_epoch - 1, 0)  # from 0
        self.write_scalars({f"{split}/{name}": value for name, value in results.items()}, epoch)
        return next(iter(results.values()))

    def predictions(self, loader: DataLoader, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[str]]]:
        """Yield the logits (batch, classes), the labels and the image paths of each batch of this process's share."""
        for batch in tqdm(loader_of_share(loader), desc=split, leave=False):
            input, label = self.parse_batch_test(batch)
            yield self.model_inference(input), label, batch["impath"]

    @property
    def tested_epoch(self) -> int:
        """Number of epochs for which the tested model was trained, for `result.json`."""
        if self.loaded_epoch is not None:
            return self.loaded_epoch
        return max(self.cfg.TEST.LOAD_EPOCH, 0) if self.cfg.TEST.EVAL_ONLY else self.max_epoch

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        return self.model(input)

    def parse_batch_test(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["img"].to(self.device, non_blocking=True), batch["label"].to(self.device, non_blocking=True)

    def _present(self, loader: DataLoader | None, split: str) -> DataLoader:
        """Return `loader`. If `loader` is None, the data set has no images of this split, so raise InputError."""
        if loader is None:
            raise InputError(f"{self.cfg.DATASET.NAME} has no {split} images")
        return loader
