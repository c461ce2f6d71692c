"""Builds the image transforms that INPUT.TRANSFORMS names. Most of them are torchvision's.

`DataManager` calls `build_transform` once for training and once for testing. The order of the steps is fixed, as in
Dassl, and doesn't depend on the order of the names. The steps before ToTensor take PIL images, and the steps after
ToTensor take tensors.
"""

import random

import torch
from PIL import Image
from torch import nn
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import crop, resize
from yacs.config import CfgNode

from dassl.data.transforms.randaugment import RandAugment
from dassl.utils.errors import unknown

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

AVAILABLE_CHOICES = [
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",
    "cutout",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "randaugment",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
]


class RandomTranslation(nn.Module):
    """With probability `p`, resize to 9/8 of `size` and crop a random window of `size`. Otherwise resize to `size`."""

    def __init__(self, size: tuple[int, int], p: float = 0.5):
        super().__init__()
        self.size, self.p = size, p

    def forward(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if random.random() >= self.p:
            return resize(image, [height, width])
        taller, wider = round(height * 1.125), round(width * 1.125)
        top, left = random.randint(0, taller - height), random.randint(0, wider - width)
        return crop(resize(image, [taller, wider]), top, left, height, width)


class Cutout(nn.Module):
    """Set `n` random squares of an image tensor (channels, height, width) to 0. A square is `length` pixels wide."""

    def __init__(self, n: int, length: int):
        super().__init__()
        self.n, self.length = n, length

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = image.clone()
        for _ in range(self.n):
            y, x = (random.randrange(side) for side in image.shape[-2:])
            half = self.length // 2
            image[..., max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
        return image


class GaussianNoise(nn.Module):
    """With probability `p`, add noise from N(mean, std**2) to a tensor."""

    def __init__(self, mean: float, std: float, p: float = 0.5):
        super().__init__()
        self.mean, self.std, self.p = mean, std, p

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if random.random() >= self.p else image + torch.randn_like(image) * self.std + self.mean


class InstanceNormalization(nn.Module):
    """Normalise each channel of an image to mean 0 and standard deviation 1."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        std, mean = torch.std_mean(image, dim=(-2, -1), keepdim=True)
        return (image - mean) / (std + 1e-8)


def build_transform(cfg: CfgNode, is_train: bool = True, choices: list[str] | None = None) -> T.Compose | None:
    """Return the transform for training or testing, or None if INPUT.NO_TRANSFORM is set.

    Args:
        cfg: the config.
        is_train: True for the training transform, which augments images. False for the test transform, which only
            resizes, crops and normalises images.
        choices: names of steps; INPUT.TRANSFORMS by default.

    Raises:
        InputError: a name isn't in AVAILABLE_CHOICES, or INPUT.INTERPOLATION is unknown.
    """
    if cfg.INPUT.NO_TRANSFORM:
        return None
    chosen = list(cfg.INPUT.TRANSFORMS if choices is None else choices)
    for name in chosen:
        if name not in AVAILABLE_CHOICES:
            raise unknown("transform (INPUT.TRANSFORMS)", name, AVAILABLE_CHOICES)
    if cfg.INPUT.INTERPOLATION not in INTERPOLATION_MODES:
        raise unknown("interpolation (INPUT.INTERPOLATION)", cfg.INPUT.INTERPOLATION, INTERPOLATION_MODES)
    stages = _train_stages(cfg) if is_train else _test_stages(cfg)
    pipeline = [stage for name, stage in stages if name is None or name in chosen]
    if is_train and not {"random_crop", "random_resized_crop"} & set(chosen):
        mode = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        pipeline.insert(0, T.Resize(tuple(cfg.INPUT.SIZE), interpolation=mode))
    return T.Compose(pipeline)


def _test_stages(cfg: CfgNode) -> list[tuple[str | None, nn.Module]]:
    """Return the steps of the test transform in order, as pairs (name in INPUT.TRANSFORMS, step).

    A step whose name is None is always used. The steps resize the short side and crop the centre. If INTERPOLATION is
    bicubic, these steps are the same as the preprocessing of CLIP.
    """
    opts = cfg.INPUT
    return [
        (None, T.Resize(max(opts.SIZE), interpolation=INTERPOLATION_MODES[opts.INTERPOLATION])),
        (None, T.CenterCrop(tuple(opts.SIZE))),
        (None, T.ToTensor()),
        ("normalize", T.Normalize(opts.PIXEL_MEAN, opts.PIXEL_STD)),
        ("instance_norm", InstanceNormalization()),
    ]


def _train_stages(cfg: CfgNode) -> list[tuple[str | None, nn.Module]]:
    """Return the steps of the training transform in order, as pairs (name in INPUT.TRANSFORMS, step).

    The step ToTensor has no name and is always used.
    """
    opts = cfg.INPUT
    size, mode = tuple(opts.SIZE), INTERPOLATION_MODES[opts.INTERPOLATION]
    policy = T.AutoAugmentPolicy
    jitter = (opts.COLORJITTER_B, opts.COLORJITTER_C, opts.COLORJITTER_S, opts.COLORJITTER_H)
    return [
        ("random_translation", RandomTranslation(size)),
        ("random_crop", T.RandomCrop(size, padding=opts.CROP_PADDING)),
        ("random_resized_crop", T.RandomResizedCrop(size, scale=opts.RRCROP_SCALE, interpolation=mode)),
        ("random_flip", T.RandomHorizontalFlip()),
        ("imagenet_policy", T.AutoAugment(policy.IMAGENET)),
        ("cifar10_policy", T.AutoAugment(policy.CIFAR10)),
        ("svhn_policy", T.AutoAugment(policy.SVHN)),
        ("randaugment", RandAugment(opts.RANDAUGMENT_N, opts.RANDAUGMENT_M)),
        ("colorjitter", T.ColorJitter(*jitter)),
        ("randomgrayscale", T.RandomGrayscale(opts.RGS_P)),
        ("gaussian_blur", T.RandomApply([T.GaussianBlur(opts.GB_K)], p=opts.GB_P)),
        (None, T.ToTensor()),
        ("cutout", Cutout(opts.CUTOUT_N, opts.CUTOUT_LEN)),
        ("normalize", T.Normalize(opts.PIXEL_MEAN, opts.PIXEL_STD)),
        ("gaussian_noise", GaussianNoise(opts.GN_MEAN, opts.GN_STD)),
        ("instance_norm", InstanceNormalization()),
    ]
