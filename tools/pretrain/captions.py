"""Makes the captions of the emoji drawings. For each class in a batch, `pretrain.py` selects a random caption."""

import itertools

import numpy as np
import torch

from clip.clip import tokenize
from datasets.scenes import DrawnClass

TEMPLATES = (
    "a photo of a {}.",
    "a photo of {}.",
    "a photo of a {}, a type of {category}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an icon of a {}.",
    "a {}.",
    "{}",
    "a photo of the {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "art of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "a photo of the small {}.",
)
#: Maps each category to the noun for the category in captions.
CATEGORY_NOUNS = {"animals": "animal", "food": "food", "travel": "place", "objects": "object", "activities": "activity"}


class Captions:
    """Stores the tokenized captions of every class.

    ViT-Mini/8 has embeddings only for the token ids that occur in captions. `rows` lists these ids in increasing order.
    Each token of a caption is stored as the index of its id in `rows`. SOS and EOT still have the two largest indices,
    as CLIP's text tower requires.
    """

    def __init__(self, classes: list[DrawnClass]):
        texts = [
            [
                template.format(name, category=CATEGORY_NOUNS[entry["category"]])
                for name, template in itertools.product([entry["name"], *entry["aliases"]], TEMPLATES)
            ]
            for entry in classes
        ]
        ids = [tokenize(of_class) for of_class in texts]  # each (n_captions, 77)
        self.rows = torch.cat(ids).unique()[1:]  # all token ids except the padding, 0
        self.by_class = [self.compact(of_class) for of_class in ids]

    def compact(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the index in `rows` of each of CLIP's token ids in `ids`. The shape stays the same."""
        return torch.searchsorted(self.rows, ids)

    def draw(self, labels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Select a random caption for each of the class labels (N,). Returns indices into `rows`, (N, 77).

        If a class has aliases, half of its captions use an alias, and the other half use the class's first name. One
        caption in five starts with 1 to 14 random tokens. These tokens prepare the model for prompt learning, which
        puts learned vectors before the class name.
        """
        chosen = []
        for label in labels.tolist():
            captions = self.by_class[label]  # captions with the first name precede captions with aliases
            first = len(captions) == len(TEMPLATES) or rng.random() < 0.5
            row = captions[rng.integers(len(TEMPLATES)) if first else rng.integers(len(TEMPLATES), len(captions))]
            if rng.random() < 0.2:
                tokens = torch.from_numpy(rng.integers(len(self.rows) - 2, size=rng.integers(1, 15)))
                row = torch.cat([row[:1], tokens, row[1 : 77 - len(tokens)]])  # SOS, tokens, caption: (77,)
            chosen.append(row)
        return torch.stack(chosen)
