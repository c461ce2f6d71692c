"""TowerAdapter, a toy method. It learns low-rank adapters in both towers, which change blocks, queries and values."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clip.inputs import BlockAdapter, Projection, TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainers.base import Method, Options, PromptTrainer, tokenize_classes


@dataclass(frozen=True)
class TowerAdapterOptions(Options):
    """The options of TowerAdapter, in the config node TRAINER.TOWERADAPTER."""

    RANK: int = 2
    LAYERS: tuple[int, ...] = (1, 2)  # indices of the layers with adapters, from 0


class LowRank(BlockAdapter, nn.Module):
    """An adapter of one block. It adds a low-rank term to the block's output, and to its queries and values."""

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)

    def beside(self, h: torch.Tensor) -> torch.Tensor:
        return 0.1 * self.up(self.down(h.float()).relu())

    def delta(self, projection: Projection, h: torch.Tensor) -> torch.Tensor | None:
        return 0.1 * self.up(self.down(h.float())) if projection in ("q", "v") else None


class TowerAdapterCLIP(Method):
    """CLIP with adapters in both towers. The text prompts are the class names in the data set's template."""

    def __init__(self, options: TowerAdapterOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        self.ids = tokenize_classes(clip, template, classnames).to(clip.logit_scale.device)
        self.layers = options.LAYERS
        widths = clip.sizes.transformer_width, clip.sizes.vision_width
        self.text, self.image = (
            nn.ModuleList(LowRank(width, options.RANK) for _ in options.LAYERS) for width in widths
        )

    def _inputs(self, adapters: nn.ModuleList) -> TowerInputs:
        return TowerInputs(adapters=dict(zip(self.layers, adapters, strict=True)))

    def text_inputs(self) -> TowerInputs:
        return self._inputs(self.text)

    def image_inputs(self) -> TowerInputs:
        return self._inputs(self.image)

    def encode_text(self) -> torch.Tensor:
        return self.clip.encode_text(self.ids, self.text_inputs())


@TRAINER_REGISTRY.register()
class TowerAdapter(PromptTrainer):
    """Trains the adapters of both towers."""

    method = TowerAdapterCLIP
    options = TowerAdapterOptions
    checkpoints = {"adapters": ""}
    default_config = "CoOp/vit_b16_ep50"
