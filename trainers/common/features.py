"""Features of test images, kept on disk: methods that leave the image tower as it is need them once, not once for every
seed, number of shots, epoch and trainer."""

import hashlib
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from clip import blocks, vision
from clip.blocks import is_untouched
from clip.model import CLIP
from clip.vision import ModifiedResNet, VisionTransformer
from dassl.data import cache
from dassl.utils import tools, versions


def is_plain(tower: nn.Module) -> bool:
    """Whether an image tower is frozen, and as CLIP has it: nobody has put anything in."""
    known = type(tower) in (VisionTransformer, ModifiedResNet)
    return known and is_untouched(tower) and not any(p.requires_grad for p in tower.parameters())


@torch.no_grad()
def image_features(model: CLIP, loader: DataLoader, device: torch.device, precision: str, keep: bool) -> torch.Tensor:
    """Features of a loader's images in their order, (n, embed_dim), float32, not normalised, on the CPU.

    Args:
        precision: what the trainer calls it; with "amp" the tower runs under autocast.
        keep: read them from the cache (`cache_folder()`/features) or write them there, if the tower is plain and the
            transform known. Weights and sizes, the transform, batch size, every image's path, size and time of
            change, this code, the device and the versions decide the file.

    Raises:
        InputError: an image is missing or can't be read.
    """

    def make() -> torch.Tensor:
        features = []
        for batch in tqdm(loader, desc="features", leave=False):
            with torch.autocast(device.type, enabled=precision == "amp"):
                features.append(model.encode_image(batch["img"].to(device, non_blocking=True)).float().cpu())
        return torch.cat(features)

    if not (keep and is_plain(model.visual) and cache.is_cacheable(loader.dataset.transform)):  # type: ignore[attr-defined]
        return make()
    name = f"features/{_digest(model, loader, device, precision)}.pt"
    return cache.cached("image features", name, make, partial(torch.load, weights_only=True), torch.save)


def _digest(model: CLIP, loader: DataLoader, device: torch.device, precision: str) -> str:
    """A name for all that the features depend on, to the bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in model.visual.state_dict().items():
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    dataset = loader.dataset
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.get_num_threads()
    compiled = any("finish" in vars(part) for part in model.visual.modules())
    how = (dataset.transform, loader.batch_size, precision, where, compiled)  # type: ignore[attr-defined]
    code = cache.source_hash(blocks, vision, tools, cache)
    digest.update(repr((model.sizes, *how, code, versions())).encode())
    for item in dataset.data_source:  # type: ignore[attr-defined]
        digest.update(repr(cache.file_identity(item.impath)).encode())
    return digest.hexdigest()
