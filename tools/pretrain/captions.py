"""What pretraining says of the drawings."""

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
#: A category as captions call it.
KINDS = {"animals": "animal", "food": "food", "travel": "place", "objects": "object", "activities": "activity"}


class Captions:
    """Every class's captions as token ids. `rows` are the ids that they use, sorted: SOS and EOT remain the largest."""

    def __init__(self, classes: list[DrawnClass]):
        texts = [
            [
                template.format(name, category=KINDS[entry["category"]])
                for name, template in itertools.product([entry["name"], *entry["aliases"]], TEMPLATES)
            ]
            for entry in classes
        ]
        ids = [tokenize(mine) for mine in texts]
        self.rows = torch.cat(ids).unique()[1:]  # without the padding
        self.by_class = [self.compact(mine) for mine in ids]

    def compact(self, ids: torch.Tensor) -> torch.Tensor:
        """CLIP's ids -> places in `rows`."""
        return torch.searchsorted(self.rows, ids)

    def draw(self, labels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """A caption for each label: (N, 77).

        A class's first name is drawn as often as all its aliases. One in five gets up to 14 random words in front, as
        a learned context puts unknown vectors there.
        """
        chosen = []
        for label in labels.tolist():
            mine = self.by_class[label]
            first = len(mine) == len(TEMPLATES) or rng.random() < 0.5
            row = mine[rng.integers(len(TEMPLATES)) if first else rng.integers(len(TEMPLATES), len(mine))]
            if rng.random() < 0.2:
                words = torch.from_numpy(rng.integers(len(self.rows) - 2, size=rng.integers(1, 15)))
                row = torch.cat([row[:1], words, row[1 : 77 - len(words)]])
            chosen.append(row)
        return torch.stack(chosen)
