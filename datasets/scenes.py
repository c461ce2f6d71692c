"""Renders photo-like scenes of emoji drawings. Pose, background, light, blur and noise are drawn from a seed.

`datasets.emoji` and the pretraining of ViT-Mini/8 call `rasterise` and `render`. All arithmetic is element-wise NumPy
in a fixed order. No library can reorder sums, so an image is bit-identical on every machine.

After any edit of this file, even of a comment, the images are rendered again: see `EmojiScenes.locate`.
"""

import functools
import io
import json
import lzma
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

DRAWINGS = Path(__file__).resolve().parents[1] / "assets" / "emoji" / "drawings.json.xz"
SIZE = 48  # side of drawings and scenes in pixels


class Style(TypedDict):
    """Source and licence of the drawings of one style. A style is a set of drawings by one vendor."""

    source: str
    package: str
    version: str
    licence: str


class DrawnClass(TypedDict):
    """A class and its drawings."""

    name: str
    category: str
    aliases: list[str]
    drawings: dict[str, str]  # style -> SVG


class Drawings(TypedDict):
    """Content of assets/emoji/drawings.json.xz."""

    styles: dict[str, Style]
    classes: list[DrawnClass]


@dataclass(frozen=True)
class Scene:
    """Strengths of the effects in a scene. Strength 0 skips an effect. Without clutter, the background is white."""

    pose: float = 1.0  # variation of size, position, rotation and shear
    light: float = 1.0  # variation of brightness, contrast, colour cast and shading
    clutter: float = 1.0  # contrast of the background
    blur: int = 2  # maximum number of 3 x 3 binomial filters
    noise: float = 0.12  # maximum amplitude; pixel values range from 0 to 1
    hidden: float = 0.0  # maximum thickness of a bar that covers a part, as a share of the image's side
    warp: float = 0.0  # maximum distortion of the drawing, as a share of the image's side
    recolour: float = 0.0  # strength of mixing colour channels
    camera: str = ""  # name in CAMERAS of a change that all images get; "" for no change

    def softened(self, strength: float) -> "Scene":
        """Return a scene with all strengths multiplied by `strength` (0 to 1), and the same camera."""
        weaker = {name: value * strength for name, value in vars(self).items() if name != "camera"}
        return Scene(**weaker | {"blur": round(weaker["blur"]), "camera": self.camera})


@functools.cache
def read_drawings() -> Drawings:
    """Return all classes with their drawings, and the styles with their sources and licences."""
    return json.loads(lzma.decompress(DRAWINGS.read_bytes()))


def rasterise(svg: str) -> np.ndarray:
    """Return a drawing as (48, 48, 4) float32 in [0, 1]. Channels: red, green, blue (times opacity), opacity."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True))
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        canvas = Image.new("RGBA", (SIZE, SIZE))
        canvas.paste(image.convert("RGBA"), ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    pixels = np.asarray(canvas, np.float32) / np.float32(255)
    pixels[..., :3] *= pixels[..., 3:]
    return pixels


def render(drawing: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Return a scene of a rasterised drawing, (48, 48, 3) uint8. `rng` makes all random choices."""
    figure = _posed(drawing, scene.pose, scene.warp, rng)  # (48, 48, 4)
    if scene.recolour:
        figure = _recoloured(figure, scene.recolour, rng)
    image = _background(scene.clutter, rng)  # (48, 48, 3)
    if scene.light and rng.random() < 0.5:  # add a shadow of the figure
        down, right = rng.integers(1, 4), rng.integers(-3, 4)
        shade = np.roll(figure[..., 3:], (down, right), (0, 1))
        image = image * (1 - np.float32(0.4 * scene.light * rng.random()) * shade)
    image = image * (1 - figure[..., 3:]) + figure[..., :3]
    if scene.hidden:
        image = _covered(image, scene.hidden, rng)
    if scene.light:
        image = _lit(image, scene.light, rng)
    for _ in range(rng.integers(0, scene.blur + 1)):
        image = _blurred(image)
    if scene.noise:
        # The difference of two uniform random numbers has a triangular distribution.
        grain = rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8).astype(np.float32)
        image = image + (grain[0] - grain[1]) * np.float32(scene.noise * rng.random() / 255)
    if scene.camera:
        image = CAMERAS[scene.camera](np.clip(image, 0, 1))
    return (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    """Return uniform float32 draws between `low` and `high`."""
    return rng.random(shape, np.float32) * np.float32(high - low) + np.float32(low)


def _posed(drawing: np.ndarray, pose: float, warp: float, rng: np.random.Generator) -> np.ndarray:
    """Return the drawing (48, 48, 4), randomly scaled, rotated, sheared, moved, mirrored and distorted."""
    size = 0.9 - pose * 0.4 * rng.random()  # share of the frame that the drawing fills
    stretch = 1 + pose * 0.25 * (rng.random() - 0.5)
    angle, shear = pose * 0.7 * (rng.random() - 0.5), pose * 0.5 * (rng.random() - 0.5)
    room = (0.2 * pose + 0.5 * (0.9 - size)) * SIZE
    across, down = (room * (rng.random() - 0.5) for _ in range(2))
    # Rounded, because C libraries differ in the last digits.
    cos, sin = round(math.cos(angle), 6), round(math.sin(angle), 6)
    sx, sy = 1 / (size * stretch), stretch / size
    centre = (SIZE - 1) / 2
    y, x = (np.arange(SIZE, dtype=np.float32) - np.float32(centre + shift) for shift in (down, across))
    y, x = y[:, None], x[None]
    # u, v, (48, 48) each: column and row in the drawing at which each pixel of the scene is sampled
    u = np.float32(sx * cos) * x + np.float32(sx * (sin + shear * cos)) * y + np.float32(centre)
    v = np.float32(-sy * sin) * x + np.float32(sy * (cos - shear * sin)) * y + np.float32(centre)
    if pose and rng.random() < 0.5:
        u = SIZE - 1 - u
    if warp:
        bend = _blobs(_uniform(rng, -warp * SIZE, warp * SIZE, 4, 4, 2))
        u, v = u + bend[..., 0], v + bend[..., 1]
    framed = np.zeros((SIZE + 2, SIZE + 2, 4), np.float32)
    framed[1:-1, 1:-1] = drawing
    return _sampled(framed, u + np.float32(1), v + np.float32(1))


def _recoloured(figure: np.ndarray, recolour: float, rng: np.random.Generator) -> np.ndarray:
    """Return the figure with mixed colour channels. Sometimes the colours are also inverted."""
    mix = np.eye(3, dtype=np.float32) + _uniform(rng, -0.4, 0.4, 3, 3) * np.float32(recolour)
    red, green, blue, alpha = (figure[..., channel : channel + 1] for channel in range(4))
    mixed = red * mix[0] + green * mix[1] + blue * mix[2]
    if rng.random() < 0.15 * recolour:
        mixed = alpha - mixed
    return np.concatenate([np.clip(mixed, 0, alpha), alpha], axis=2)


def _sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample `image` (height, width, channels) bilinearly at x, y (48, 48). Points outside get the border's value.

    Returns:
        (48, 48, channels)
    """
    height, width, channels = image.shape
    x = np.minimum(np.maximum(x, 0), np.float32(width - 1.001))
    y = np.minimum(np.maximum(y, 0), np.float32(height - 1.001))
    left, top = x.astype(np.int32), y.astype(np.int32)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    flat, corner = image.reshape(-1, channels), top * width + left  # (height * width, channels), (48, 48)
    upper, lower = (_interpolate(flat.take(at, 0), flat.take(at + 1, 0), fx) for at in (corner, corner + width))
    return _interpolate(upper, lower, fy)


def _interpolate(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return `start` where `share` is 0, `end` where it is 1, and a linear mix in between."""
    return start + (end - start) * share


def _background(clutter: float, rng: np.random.Generator) -> np.ndarray:
    """Return a background (48, 48, 3). It is white if `clutter` is 0, otherwise coloured with coarse and fine blobs."""
    image: np.ndarray = np.ones((SIZE, SIZE, 3), np.float32)
    if clutter:
        tone = 1 - _uniform(rng, 0, 1, 3) * np.float32(min(1.0, clutter))
        image = image * tone
        for cells, contrast in ((2, 0.5), (4, 0.35), (int(rng.integers(6, 17)), 0.25)):
            grey = rng.random() < 0.5
            blobs = np.repeat(_uniform(rng, -1, 1, cells + 1, cells + 1, 1 if grey else 3), 3 if grey else 1, axis=2)
            image = image + _blobs(blobs) * np.float32(contrast * clutter * rng.random())
    return np.clip(image, 0, 1)


def _blobs(values: np.ndarray) -> np.ndarray:
    """Interpolate a grid of values (cells + 1, cells + 1, channels) to an image (48, 48, channels)."""
    at = np.arange(SIZE, dtype=np.float32) * np.float32((len(values) - 1) / SIZE)
    first = at.astype(np.int32)
    share = (at - first)[:, None, None]
    rows = _interpolate(values[first], values[first + 1], share)  # (48, cells + 1, channels)
    return _interpolate(rows[:, first], rows[:, first + 1], share[:, 0])


def _covered(image: np.ndarray, hidden: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with a horizontal or vertical bar of one colour across it."""
    thickness = max(1, int(SIZE * hidden * rng.random()))
    start = int(rng.integers(0, SIZE - thickness))
    rows = slice(start, start + thickness)
    image = image.copy()
    image[(rows, slice(None)) if rng.random() < 0.5 else (slice(None), rows)] = _uniform(rng, 0, 1, 3)
    return image


def _lit(image: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    """Return the image with changed brightness, contrast and colours, and with shading from one side."""
    cast = 1 + _uniform(rng, -0.2, 0.2, 3) * np.float32(light)
    contrast = np.float32(1 - light * 0.5 * rng.random())
    offset = np.float32(light * 0.4 * (rng.random() - 0.5))
    slope = _uniform(rng, -0.5, 0.5, 2) * np.float32(light)
    at = np.arange(SIZE, dtype=np.float32) / np.float32(SIZE) - np.float32(0.5)
    shading = 1 + slope[0] * at[:, None] + slope[1] * at[None]
    if rng.random() < 0.15 * light:  # remove most of the colour
        image = image + (_grey(image) - image) * np.float32(0.8)
    return ((image - np.float32(0.5)) * contrast + np.float32(0.5) + offset) * cast * shading[..., None]


def _grey(image: np.ndarray) -> np.ndarray:
    """Return the mean of the colour channels, (48, 48, 1)."""
    return (image[..., :1] + image[..., 1:2] + image[..., 2:]) / np.float32(3)


def _blurred(image: np.ndarray) -> np.ndarray:
    """Return the image after a 3 x 3 binomial filter, which wraps around at the border."""
    for axis in (0, 1):
        previous, following = np.roll(image, 1, axis), np.roll(image, -1, axis)
        image = image * np.float32(0.5) + (previous + following) * np.float32(0.25)
    return image


def _fog(image: np.ndarray) -> np.ndarray:
    """Reduce contrast and raise brightness."""
    return image * np.float32(0.45) + np.float32(0.5)


def _coarse(image: np.ndarray) -> np.ndarray:
    """Reduce the resolution to 16 x 16 large pixels."""
    total = sum(image[row::3, column::3] for row in range(3) for column in range(3))
    return np.repeat(np.repeat(total / np.float32(9), 3, axis=0), 3, axis=1)


def _dusk(image: np.ndarray) -> np.ndarray:
    """Darken the image and tint it blue."""
    return image * np.float32(0.35) + _grey(image) * np.array([0.2, 0.3, 0.6], np.float32)


def _false_colour(image: np.ndarray) -> np.ndarray:
    """Average every colour channel with another one: red with blue, green with red, blue with green."""
    return (image + image[..., [2, 0, 1]]) * np.float32(0.5)


def _overhead(image: np.ndarray) -> np.ndarray:
    """Rotate the image by 90 degrees."""
    return np.rot90(image)


#: Name -> function that changes all images of a data set in the same way. This change is a domain shift.
CAMERAS = {"fog": _fog, "coarse": _coarse, "dusk": _dusk, "false colour": _false_colour, "overhead": _overhead}
