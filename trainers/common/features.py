"""Image features of the frozen CLIP, for evaluation and for methods that are trained without epochs.

If a method doesn't change the image tower, `PromptTrainer` evaluates the method with these features. The features are
cached on disk, so runs with different seeds, numbers of shots, epochs or trainers compute them only once. `Method.fit`
and `Method.search` get `TrainingFeatures`.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm
from yacs.config import CfgNode

from clip import attention, blocks, inputs, mlp, resnet, vision
from clip.blocks import is_original
from clip.compiling import is_compiled
from clip.model import CLIP
from clip.resnet import ModifiedResNet
from clip.vision import VisionTransformer
from dassl.data import cache
from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.datasets import DatasetBase, Datum
from dassl.data.transforms import build_transform
from dassl.utils import device_name, tools, versions


class LabelledFeatures(NamedTuple):
    """Image features with their labels."""

    features: torch.Tensor  # (n_images, embed_dim), float32, not normalised, on the CPU
    labels: torch.Tensor  # (n_images,), or (n_images, n_classes) for several tasks; see datasets/multitask.py


class TrainingFeatures:
    """Computes the features of a run's training images (`train`) and of its validation images (`val`).

    Args:
        precision: precision of the towers: fp32, fp16, amp or bf16.
    """

    def __init__(self, clip: CLIP, dataset: DatasetBase, cfg: CfgNode, device: torch.device, precision: str):
        self.clip, self.dataset, self.cfg, self.device, self.precision = clip, dataset, cfg, device, precision

    def train(self, passes: int = 0) -> LabelledFeatures:
        """Return features of the training images.

        Args:
            passes: number of passes over augmented images; the features of all passes are averaged. 0: one pass
                over images that aren't augmented, but transformed as in tests.
        """
        items = self.dataset.train_x or []
        if not passes:
            return labelled_features(self.clip, items, self.cfg, self.device, self.precision)
        mean = torch.zeros(())
        for number in range(passes):
            mean = mean + self.augmented(number).features / passes
        return LabelledFeatures(mean, default_collate([item.label for item in items]))

    def augmented(self, number: int) -> LabelledFeatures:
        """Return features of the training images, in order, after the augmentation of epoch `number`."""
        items = self.dataset.train_x or []
        wrapper = DatasetWrapper(self.cfg, items, build_transform(self.cfg, is_train=True), is_train=True)
        wrapper.k_tfm = 1  # each pass augments an image only once, even if K_TRANSFORMS is larger
        wrapper.epoch = number  # the augmentation depends on the epoch
        # The loader must not shuffle the images or drop any, because callers combine the features of several passes.
        loader = DataLoader(wrapper, batch_size=self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
        features = image_features(self.clip, loader, self.device, self.precision, use_cache=False)
        return LabelledFeatures(features, default_collate([item.label for item in items]))

    def test(self) -> LabelledFeatures:
        """Return features of the test images. Only for options whose name says that they look at the test images."""
        return labelled_features(self.clip, self.dataset.test or [], self.cfg, self.device, self.precision)

    def val(self) -> LabelledFeatures | None:
        """Return features of the validation images. None if the data set has no validation images."""
        if not self.dataset.val:
            return None
        return labelled_features(self.clip, self.dataset.val, self.cfg, self.device, self.precision)


def labelled_features(
    clip: CLIP, items: Sequence[Datum], cfg: CfgNode, device: torch.device, precision: str = "fp32"
) -> LabelledFeatures:
    """Return features and labels of images. The images are transformed as in tests.

    Raises:
        InputError: `items` is empty.
    """
    transform = build_transform(cfg, is_train=False)
    size = cfg.DATALOADER.TEST.BATCH_SIZE
    loader = build_data_loader(cfg, data_source=list(items), batch_size=size, tfm=transform, is_train=False)
    features = image_features(clip, loader, device, precision, use_cache=cfg.TEST.CACHE_FEATURES)
    return LabelledFeatures(features, default_collate([item.label for item in items]))


def is_frozen_and_original(tower: nn.Module) -> bool:
    """Return whether an image tower is frozen and original.

    In an original tower, no submodule was replaced, wrapped or hooked.
    """
    known = type(tower) in (VisionTransformer, ModifiedResNet)
    return known and is_original(tower) and not any(p.requires_grad for p in tower.parameters())


@torch.no_grad()
def image_features(
    clip: CLIP, loader: DataLoader, device: torch.device, precision: str, use_cache: bool
) -> torch.Tensor:
    """Return the features of a loader's images, in the loader's order.

    The features are (n_images, embed_dim), float32, not normalised, on the CPU.

    Args:
        precision: precision of the tower: fp32, fp16, amp or bf16. With "amp" the tower runs under autocast.
        use_cache: True: read the features from a file in `cache_folder()`/features. If the file doesn't exist, compute
            the features and write the file. The cache isn't used if the tower was changed, or if the transform isn't a
            test transform of `build_transform`. The file name is a hash of the weights, sizes, transform, batch size,
            precision, source code, device and library versions. The path, size and modification time of each image
            are also hashed.

    Raises:
        InputError: an image is missing or can't be read.
    """

    def encode_all() -> torch.Tensor:
        features = []
        for batch in tqdm(loader, desc="features", leave=False):
            with torch.autocast(device.type, enabled=precision == "amp"):
                features.append(clip.encode_image(batch["img"].to(device, non_blocking=True)).float().cpu())
        return torch.cat(features)

    cacheable = cache.is_cacheable(loader.dataset.transform)  # type: ignore[attr-defined]
    if not (use_cache and is_frozen_and_original(clip.visual) and cacheable):
        return encode_all()
    name = f"features/{_digest(clip, loader, device, precision)}.pt"
    return cache.cached("image features", name, encode_all, partial(torch.load, weights_only=True), torch.save)


def _digest(clip: CLIP, loader: DataLoader, device: torch.device, precision: str) -> str:
    """Return a hash of everything that can change the features, even if the change is only a rounding error."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in clip.visual.state_dict().items():
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    dataset = loader.dataset
    where, compiled = device_name(device), is_compiled(clip.visual)
    how = (dataset.transform, loader.batch_size, precision, where, compiled)  # type: ignore[attr-defined]
    code = cache.source_hash(attention, blocks, inputs, mlp, resnet, vision, tools, cache)
    digest.update(repr((clip.sizes, *how, code, versions())).encode())
    for item in dataset.data_source:  # type: ignore[attr-defined]
        digest.update(repr(cache.file_identity(item.impath)).encode())
    return digest.hexdigest()
