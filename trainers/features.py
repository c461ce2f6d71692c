"""Features of test images, kept on disk: methods that leave the image tower as it is need them once, not once for every
seed, number of shots, epoch and trainer."""

import hashlib
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from clip.blocks import Transformer, is_untouched
from clip.model import CLIP
from dassl.utils import cache_folder, in_one_piece, versions


def is_plain(tower: nn.Module) -> bool:
    """Whether an image tower is frozen, and as CLIP has it: nobody has put anything in."""
    transformers = [part for part in tower.modules() if isinstance(part, Transformer)]
    return all(is_untouched(t) for t in transformers) and not any(p.requires_grad for p in tower.parameters())


@torch.no_grad()
def image_features(model: CLIP, loader: DataLoader, device: torch.device, precision: str, keep: bool) -> torch.Tensor:
    """Features of a loader's images in their order, (n, embed_dim), float32, not normalised, on the CPU.

    Args:
        precision: what the trainer calls it; with "amp" the tower runs under autocast.
        keep: read them from the cache (`cache_folder()`/features) or write them there. Weights, transform, batch size,
            every image's path, size and time of change, and the versions decide the file.
    """
    file = cache_folder() / "features" / f"{_digest(model, loader, device, precision)}.pt" if keep else None
    if file and file.is_file():
        return torch.load(file, weights_only=True)
    features = []
    for batch in tqdm(loader, desc="features", leave=False):
        with torch.autocast(device.type, enabled=precision == "amp"):
            features.append(model.encode_image(batch["img"].to(device, non_blocking=True)).float().cpu())
    found = torch.cat(features)
    if file:
        with in_one_piece(file) as unfinished:
            torch.save(found, unfinished)
    return found


def _digest(model: CLIP, loader: DataLoader, device: torch.device, precision: str) -> str:
    """A name for all that the features depend on, to the bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in model.visual.state_dict().items():
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    dataset = loader.dataset
    how = (dataset.transform, loader.batch_size, precision, device.type)  # type: ignore[attr-defined]
    digest.update(repr((*how, torch.get_num_threads(), versions())).encode())
    for item in dataset.data_source:  # type: ignore[attr-defined]
        path = Path(item.impath).absolute()
        about = path.stat()
        digest.update(repr((str(path), about.st_size, about.st_mtime_ns)).encode())
    return digest.hexdigest()
