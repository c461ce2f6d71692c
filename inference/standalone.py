"""Classifies images with the model in this folder. Needs pillow, and torch or onnxruntime with numpy.

python classifier.py IMAGES...     prints the three best classes of each image. As a module:

    from classifier import Classifier
    Classifier().predict("photo.jpg")     # [("cat", 0.93), ("dog", 0.07)]

Load model.pt2 only from sources that you trust, because PyTorch may unpickle parts of it.
"""

import json
import math
import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parent
RESAMPLING = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


class Classifier:
    """The classifier in this folder. `backend` is "onnx", "torch" or "" (ONNX Runtime if it is installed)."""

    def __init__(self, backend=""):
        self.info = json.loads((FOLDER / "classifier.json").read_text(encoding="utf-8"))
        names = [task["name"] + ": " for task in self.info["tasks"] for _ in range(task["n_classes"])]
        several = len(self.info["tasks"]) > 1
        self.classes = [f"{names[i] if several else ''}{name}" for i, name in enumerate(self.info["classes"])]
        try:
            if backend == "torch":
                raise ImportError
            import numpy
            import onnxruntime

            session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"])
            self.numpy, self.run = numpy, lambda images: session.run(["logits"], {"images": images})[0][0].tolist()
        except ImportError:
            if backend == "onnx":
                raise
            import torch

            model = torch.export.load(str(FOLDER / "model.pt2")).module()
            self.numpy, self.torch = None, torch
            self.run = lambda images: model(images)[0][0].tolist()

    def prepare(self, image):
        """Return an image (a path or a PIL image) as an array or tensor (1, 3, height, width)."""
        image = image if isinstance(image, Image.Image) else Image.open(image)
        if image.mode.startswith("I;16"):
            image = image.point(lambda value: value / 256).convert("L")
        image, how = image.convert("RGB"), self.info["preprocessing"]
        height, width = how["size"]
        short, side = min(image.size), max(height, width)
        sizes = [side if length == short else int(side * length / short) for length in image.size]
        image = image.resize(sizes, RESAMPLING[how["interpolation"]])
        left, top = round((sizes[0] - width) / 2), round((sizes[1] - height) / 2)
        pixels, shape = image.crop((left, top, left + width, top + height)).tobytes(), (height, width, 3)
        mean, std = (how["mean"], how["std"]) if "normalize" in how["steps"] else ([0.0] * 3, [1.0] * 3)
        if self.numpy:
            array = self.numpy.frombuffer(pixels, "uint8").reshape(shape).astype("float32") / 255
            return ((array - self.numpy.float32(mean)) / self.numpy.float32(std)).transpose(2, 0, 1)[None]
        tensor = self.torch.frombuffer(bytearray(pixels), dtype=self.torch.uint8).view(shape).float() / 255
        return ((tensor - self.torch.tensor(mean)) / self.torch.tensor(std)).permute(2, 0, 1)[None].contiguous()

    def predict(self, image, topk=3):
        """Return the `topk` best classes of an image, best first, as pairs (class name, probability)."""
        logits = self.run(self.prepare(image))
        exponentials = [math.exp(value - max(logits)) for value in logits]
        scores = zip(self.classes, (value / sum(exponentials) for value in exponentials), strict=True)
        return sorted(scores, key=lambda pair: -pair[1])[:topk]


if __name__ == "__main__":
    classifier = Classifier()
    for path in sys.argv[1:]:
        print(path, *(f"{name} {100 * score:.1f}%" for name, score in classifier.predict(path)), sep="   ")
