"""Uses trained prompts: classifies new images, and exports classifiers that need nothing of this project.

    from inference import Classifier

    classifier = Classifier.from_run("output/few_shot/clothing/...")
    print(classifier.predict("photo.jpg"))

predict.py, export.py and push.py are the command lines. `Classifier` is imported when it is first used, because it
imports torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.classifier import Classifier as Classifier
    from inference.classifier import Prediction as Prediction

__all__ = ["Classifier", "Prediction"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("inference.classifier"), name)
