"""RandAugment (Cubuk et al., arXiv 1909.13719) with Dassl's operations and magnitudes, which CoPrompt was tuned with.

`build_transform` uses it for "randaugment". torchvision's transform of the same name has other operations: it can't
invert or cut out, and it scales the magnitudes differently.
"""

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import nn

Operation = Callable[[Image.Image, float], Image.Image]

LARGEST_MAGNITUDE = 30
_CUTOUT_COLOR = (125, 123, 114)  # nearly the mean colour of ImageNet


def _affine(image: Image.Image, *coefficients: float) -> Image.Image:
    """Move pixels: an output pixel (x, y) is the input pixel (a x + b y + c, d x + e y + f). The rest is black."""
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def _solarize_add(image: Image.Image, addition: float) -> Image.Image:
    """Make the image brighter, then invert the pixels above 128."""
    return ImageOps.solarize(image.point(lambda value: min(value + int(addition), 255)), 128)


def _cutout(image: Image.Image, length: float) -> Image.Image:
    """Fill a square of `length` pixels, whose centre is a random pixel, with grey."""
    (width, height), image = image.size, image.copy()
    left = int(max(0, random.uniform(0, width) - length / 2))
    top = int(max(0, random.uniform(0, height) - length / 2))
    corner = min(width, left + length), min(height, top + length)
    ImageDraw.Draw(image).rectangle((left, top, *corner), _CUTOUT_COLOR)
    return image


#: (operation, value at magnitude 0, value at magnitude 30, whether the sign of the value is random)
OPERATIONS: tuple[tuple[Operation, float, float, bool], ...] = (
    (lambda image, _: ImageOps.autocontrast(image), 0, 1, False),
    (lambda image, _: ImageOps.equalize(image), 0, 1, False),
    (lambda image, _: ImageOps.invert(image), 0, 1, False),
    (lambda image, degrees: image.rotate(degrees), 0, 30, True),
    (lambda image, bits: ImageOps.posterize(image, int(bits)), 4, 8, False),
    (lambda image, threshold: ImageOps.solarize(image, math.ceil(threshold)), 0, 256, False),
    (_solarize_add, 0, 110, False),
    (lambda image, factor: ImageEnhance.Color(image).enhance(factor), 0.1, 1.9, False),
    (lambda image, factor: ImageEnhance.Contrast(image).enhance(factor), 0.1, 1.9, False),
    (lambda image, factor: ImageEnhance.Brightness(image).enhance(factor), 0.1, 1.9, False),
    (lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor), 0.1, 1.9, False),
    (lambda image, slope: _affine(image, 1, slope, 0, 0, 1, 0), 0, 0.3, True),
    (lambda image, slope: _affine(image, 1, 0, 0, slope, 1, 0), 0, 0.3, True),
    (_cutout, 0, 40, False),
    (lambda image, pixels: _affine(image, 1, 0, pixels, 0, 1, 0), 0, 100, True),
    (lambda image, pixels: _affine(image, 1, 0, 0, 0, 1, pixels), 0, 100, True),
)


class RandAugment(nn.Module):
    """Applies `n` random operations to an RGB image. The same operation may be drawn several times.

    Args:
        m: magnitude of the operations, 0 to 30.
    """

    def __init__(self, n: int, m: float):
        super().__init__()
        self.n, self.m = n, m

    def forward(self, image: Image.Image) -> Image.Image:
        for operation, low, high, signed in random.choices(OPERATIONS, k=self.n):
            value = low + self.m / LARGEST_MAGNITUDE * (high - low)
            if signed and random.random() > 0.5:
                value = -value
            image = operation(image, value)
        return image
