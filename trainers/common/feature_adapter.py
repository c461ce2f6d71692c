"""`FeatureAdapter`, a small learned network for the features of a frozen tower. CLIP-Adapter and CoPrompt use it."""

import torch
from torch import nn


class FeatureAdapter(nn.Module):
    """Mixes features with a learned function of them: share * A(features) + (1 - share) * features.

    A is two linear maps without bias, each followed by a ReLU. `fc` is the official name in both methods.

    Args:
        reduction: the hidden layer has embed_dim / reduction units.
    """

    def __init__(self, embed_dim: int, share: float, reduction: int = 4):
        super().__init__()
        hidden = embed_dim // reduction
        layers = (nn.Linear(embed_dim, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, embed_dim, bias=False))
        self.fc = nn.Sequential(*layers, nn.ReLU())
        self.share = share

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mixed features, float32. `features` are (n, embed_dim), not normalised."""
        features = features.float()
        return self.share * self.fc(features) + (1 - self.share) * features
