"""Tip-Adapter-F: Tip-Adapter with learned keys (Zhang et al., ECCV 2022, arXiv 2207.09519, section 3.3).

The keys start from the features of the training images, and are then trained. After the last epoch, alpha and beta are
searched. By default, the keys of the last epoch are used. With KEEP_BEST_ON, the keys of the epoch with the best test
accuracy are used, as in the original code.
"""

import torch

from dassl.engine import TRAINER_REGISTRY
from trainers.base import LabelledFeatures, StepScheduleTrainer
from trainers.tip_adapter import TipAdapter, TipAdapterCLIP, TipAdapterOptions


class TipAdapterFCLIP(TipAdapterCLIP):
    """Tip-Adapter whose keys are learned."""

    has_loop = True
    learns_keys = True
    best: tuple[float, torch.Tensor] | None = None  # KEEP_BEST_ON: the best test accuracy, and its keys on the CPU

    def keep_best(self, images: LabelledFeatures, is_last: bool) -> None:
        """Remember the keys if their accuracy on these images is the best. After the last epoch, use the best keys."""
        features = images.features.to(self.text.device)
        with torch.no_grad():
            predicted = self.classify(features).logits.argmax(1)
        accuracy = 100 * (predicted.cpu() == images.labels).double().mean().item()
        if self.best is None or accuracy > self.best[0]:
            self.best = accuracy, self.adapter.weight.detach().cpu().clone()
        if is_last:
            self.adapter.weight.data.copy_(self.best[1])

    def state(self) -> dict[str, torch.Tensor]:
        if self.best is None:
            return {}
        return {"best_accuracy": torch.tensor(self.best[0], dtype=torch.float64), "best_keys": self.best[1]}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.best = state["best_accuracy"].item(), state["best_keys"]


@TRAINER_REGISTRY.register()
class TipAdapterF(StepScheduleTrainer, TipAdapter):
    """Trains Tip-Adapter-F. It learns embed_dim parameters for each training image."""

    method = TipAdapterFCLIP
    options = TipAdapterOptions
    checkpoints = {"tip_adapter": ""}
    default_config = "rn50"

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        return super().values(dataset, protocol, shots) | ({"OPTIM.MAX_EPOCH": 100} if dataset == "EuroSAT" else {})

    def end_epoch(self) -> None:
        method = self.model
        if isinstance(method, TipAdapterFCLIP) and method.options.KEEP_BEST_ON == "test":
            method.eval()
            method.keep_best(self._training_features().test(), self.epoch + 1 == self.max_epoch)
        super().end_epoch()
