"""The class `CachedEvaluation`: the part of a `PromptTrainer` that computes the logits of test images.

If a method doesn't change the image tower, the image features come from a cache (`features.py`), so that runs with
different seeds, shots or trainers encode each test image only once.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from dassl import distributed
from dassl.data.data_manager import reads_in_order
from dassl.engine import TrainerX
from trainers.common.features import image_features, is_frozen_and_original
from trainers.common.method import Method


class CachedEvaluation(TrainerX):
    """Evaluates a `Method`, if possible with cached image features."""

    model: Method
    precision: str  # the precision actually used
    # False if the subclass changes how test batches are read or classified. Cached features aren't used then.
    infers_by_classify = True
    shares_work = True

    def __init_subclass__(cls) -> None:
        """If the class changes how test batches are read or classified, `infers_by_classify` defaults to False."""
        super().__init_subclass__()
        if "forward_backward" in vars(cls) and "shares_work" not in vars(cls):
            cls.shares_work = False  # its training step doesn't add the gradients of all processes
        if {"model_inference", "parse_batch_test"} & set(vars(cls)) and "infers_by_classify" not in vars(cls):
            cls.infers_by_classify = False

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, enabled=self.precision == "amp")

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            return self.model(input)

    def predictions(self, loader: DataLoader, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[str]]]:
        """Yield the logits (batch, n_classes), the labels and the image paths of each batch of this process's share.

        If the method doesn't change the image tower, cached image features are used. Then `model_inference` and the
        method's `forward` and `encode_image` aren't called. See `image_tower_is_frozen` and `infers_by_classify`.
        """
        clip = self.model.clip
        self._share_text_features()
        frozen = self.model.image_tower_is_frozen and self.model.image_inputs().is_empty
        original = self.infers_by_classify and reads_in_order(loader) and is_frozen_and_original(clip.visual)
        if not (self.cfg.TEST.CACHE_FEATURES and frozen and original):
            with clip.alone():
                yield from super().predictions(loader, split)
            return
        features = image_features(clip, loader, self.device, self.precision, use_cache=True)
        items, size = loader.dataset.data_source, cast(int, loader.batch_size)  # type: ignore[attr-defined]
        for start in tqdm(distributed.every_nth(range(0, len(items), size)), desc=split, leave=False):
            batch = items[start : start + size]
            with self._autocast(), clip.alone():
                logits = self.model.classify(features[start : start + size].to(self.device)).logits
            labels = default_collate([item.label for item in batch]).to(self.device)
            yield logits, labels, [item.impath for item in batch]

    def _share_text_features(self) -> None:
        """If several processes test, let all of them compute the text features together, which the method caches.

        Afterwards, each process classifies its images alone.
        """
        has_text = type(self.model).encode_text is not Method.encode_text
        if distributed.size() > 1 and has_text and not self.model.text_depends_on_image:
            with self._autocast():
                self.model.text_features()
