"""Measures zero-shot accuracies of the small CLIP on drawings of held-out styles. Called by `pretrain.py`."""

import numpy as np
import torch
import torch.nn.functional as F

from clip.model import CLIP
from clip.sizes import OPENAI_MEAN, OPENAI_STD
from datasets.scenes import DrawnClass, Scene, render
from tools.pretrain.captions import CATEGORY_NOUNS, Captions


def to_input(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 images (N, 48, 48, 3) to float images (N, 3, 48, 48), normalised with OpenAI's mean and std."""
    return ((images.float() / 255 - torch.tensor(OPENAI_MEAN)) / torch.tensor(OPENAI_STD)).permute(0, 3, 1, 2)


@torch.no_grad()
def zero_shot(
    clip: CLIP, captions: Captions, classes: list[DrawnClass], held_out: dict[str, list[np.ndarray]], scene: Scene
) -> dict[str, float]:
    """Return zero-shot accuracies on images of the held-out styles, in per cent.

    For example, the key "noto, all" holds the accuracy on all images of the style noto, classified among all classes.
    The key "noto, food" holds the accuracy on the images of food, classified among the food classes only.
    """
    ids = torch.stack([of_class[0] for of_class in captions.by_class])  # "a photo of a {}.", (n_classes, 77)
    text_features = F.normalize(clip.encode_text(ids), dim=-1)  # (n_classes, embed_dim)
    category = np.array([entry["category"] for entry in classes])
    figures: dict[str, float] = {}
    for style, drawings in held_out.items():
        images = [
            render(drawing, scene, np.random.default_rng([0, 7, label, shot]))
            for shot in range(2)
            for label, drawing in enumerate(drawings)
        ]
        batches = torch.from_numpy(np.stack(images)).split(256)  # each (at most 256, 48, 48, 3)
        image_features = torch.cat([clip.encode_image(to_input(batch)) for batch in batches])
        logits = F.normalize(image_features, dim=-1) @ text_features.t()  # (2 * n_classes, n_classes)
        truth = torch.arange(len(classes)).repeat(2)  # (2 * n_classes,)
        figures[f"{style}, all"] = 100 * (logits.argmax(1) == truth).float().mean().item()
        for name in CATEGORY_NOUNS:
            members = torch.from_numpy(np.flatnonzero(category == name))  # indices of the category's classes
            rows = torch.isin(truth, members)
            correct = members[logits[rows][:, members].argmax(1)] == truth[rows]
            figures[f"{style}, {name}"] = 100 * correct.float().mean().item()
    return figures
