"""The model card of an exported classifier: README.md, as the Hugging Face hub shows it."""

from yacs.config import CfgNode

from clip import mini
from clip.download import MODELS, is_url
from inference.record import ExportedRecord

_CARD = """---
library_name: onnx
pipeline_tag: image-classification
tags:
- clip
- prompt-learning
- {trainer}
---

# {dataset}: an image classifier of {n_classes} classes

Prompts for CLIP ({clip}), learned with {trainer}. The model maps an image to one of these classes:

{classes}

- **Run:** {run}.
- **Accuracy:** {accuracy}.
- **Precision:** {precision}.
- **Licence of the CLIP's weights:** {licence}. The owner of this repository chooses the licence of the prompts.

## Use

    pip install pillow onnxruntime numpy       # or: pip install pillow torch
    python classifier.py photo.jpg

`classifier.py` prepares an image as the run did: resize, centre crop, normalise. The output `logits` of the models has
one column per class, in the order of `classifier.json`. The output `features` is the normalised image feature.

| file | contents |
| --- | --- |
| `model.onnx` | the model for ONNX Runtime; input `images` (batch, 3, {height}, {width}), float32 |
| `model.pt2` | the same model for `torch.export.load` |
| `classifier.json` | class names, preprocessing, CLIP, run, accuracy |
| `prompts.safetensors` | the learned parameters, under the names of the project's checkpoints |
| `classifier.py` | classifies images with these files alone |

## Limits

The model knows only the classes above, and always chooses one of them. Its accuracy was measured on images of the same
source as the training images. CLIP's own limits and biases apply.
"""


def model_card(record: ExportedRecord) -> str:
    """Return the text of the card."""
    measured = "not measured"
    if record.accuracy is not None:
        measured = f"{record.accuracy:.1f}% of {record.n_test} test images"
    height, width = record.preprocessing.size
    return _CARD.format(
        trainer=record.trainer,
        dataset=record.dataset,
        n_classes=len(record.classes),
        clip=record.clip,
        classes=", ".join(record.classes),
        run=record.run,
        accuracy=measured,
        precision=record.precision,
        licence=record.licence,
        height=height,
        width=width,
    )


def licence_of(cfg: CfgNode) -> str:
    """Return the licence of the CLIP's weights, or where to find it."""
    name, path = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PATH
    if path:
        return "unknown, because the weights were read from a file"
    if name == mini.NAME:
        return "CC BY-SA 4.0 (as far as the weights are adapted material)"
    if name in MODELS and is_url(MODELS[name]):
        return "MIT (OpenAI)"
    return f"see the page of {name.removeprefix('hf-hub:')}"
