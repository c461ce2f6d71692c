"""Classifies images with the model in this folder. Needs pillow, and torch or onnxruntime with numpy.

python classifier.py IMAGES...     prints the three best classes of each image. As a module:
Classifier().predict("photo.jpg")  returns pairs such as [("cat", 0.93), ("dog", 0.07)].
Load model.pt2 only from sources that you trust, because PyTorch may unpickle parts of it.
"""

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parent


class Classifier:
    """The classifier in this folder. `backend` is "onnx", "torch" or "" (ONNX Runtime if it is installed)."""

    def __init__(self, backend: str = "") -> None:
        info = json.loads((FOLDER / "classifier.json").read_text(encoding="utf-8"))
        self.classes, how = info["classes"], info["preprocessing"]
        self.size, self.resampling = how["size"], Image.Resampling[how["interpolation"].upper()]
        self.mean, self.std = how["mean"], how["std"]
        has_onnx = importlib.util.find_spec("onnxruntime") is not None
        self.logits = self.use_onnx() if backend == "onnx" or (not backend and has_onnx) else self.use_torch()

    def use_onnx(self) -> Callable[[bytes], list[float]]:
        """Return the function that maps the pixels of an image to logits, with ONNX Runtime."""
        import numpy as np
        import onnxruntime

        session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"])

        def logits(pixels: bytes) -> list[float]:
            scaled = np.frombuffer(pixels, np.uint8).reshape(*self.size, 3).astype(np.float32) / np.float32(255)
            image = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
            return session.run(["logits"], {"images": image.transpose(2, 0, 1)[None]})[0][0].tolist()

        return logits

    def use_torch(self) -> Callable[[bytes], list[float]]:
        """Return the same function, with PyTorch."""
        import torch

        model = torch.export.load(str(FOLDER / "model.pt2")).module()

        def logits(pixels: bytes) -> list[float]:
            image = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(*self.size, 3).float() / 255
            image = (image - torch.tensor(self.mean)) / torch.tensor(self.std)
            return model(image.permute(2, 0, 1)[None].contiguous())[0][0].tolist()

        return logits

    def pixels(self, image: Image.Image) -> bytes:
        """Return the pixels of an image in RGB, row by row, after the resize and the centre crop."""
        if image.mode.startswith("I;16"):
            image = image.point(lambda value: value / 256).convert("L")
        (height, width), short = self.size, min(image.size)
        w, h = (int(max(self.size) * length / short) for length in image.size)
        left, top = round((w - width) / 2), round((h - height) / 2)
        image = image.convert("RGB").resize((w, h), self.resampling)
        return image.crop((left, top, left + width, top + height)).tobytes()

    def predict(self, image: str | Path | Image.Image, topk: int = 3) -> list[tuple[str, float]]:
        """Return the `topk` best classes of an image, best first, as pairs (class name, probability)."""
        logits = self.logits(self.pixels(image if isinstance(image, Image.Image) else Image.open(image)))
        powers = [math.exp(value - max(logits)) for value in logits]
        scores = [power / sum(powers) for power in powers]
        return sorted(zip(self.classes, scores, strict=True), key=lambda pair: -pair[1])[:topk]


if __name__ == "__main__":
    classifier = Classifier()
    for path in sys.argv[1:]:
        print(path, *(f"{name} {100 * score:.1f}%" for name, score in classifier.predict(path)), sep="   ")
