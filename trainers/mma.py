"""MMA: Multi-Modal Adapter for Vision-Language Models (Yang et al., CVPR 2024).

The upper blocks of both towers get adapters, which are parallel to the whole block. An adapter maps a row down to few
dimensions, and up again. Between these two maps, the adapters of the two towers share a map, which couples the towers
(section 3.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clip.inputs import BlockAdapter, TowerInputs
from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import InputError
from trainers.base import ClassPrompts, Depth, Method, Options, Precision, PromptTrainer, Width, check_depth, described


@dataclass(frozen=True)
class MMAOptions(Options):
    """The options of MMA, in the config node TRAINER.MMADAPTER."""

    PREC: Precision = "amp"
    TEXT_CTX_INIT: str = described("a photo of a", "fixed words before the class name")
    ADAPTER_START: Depth = described(5, "first layer with an adapter, counted from 1")
    ADAPTER_END: Depth = described(12, "last layer with an adapter, counted from 1")
    ADAPTER_DIM: Width = described(32, "number of dimensions between the maps down and up")
    ADAPTER_SCALE: float = described(0.001, "factor of the adapters' output (alpha)")


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, factor: float) -> torch.Tensor:  # type: ignore[no-untyped-def]
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[no-untyped-def]
        return ctx.factor * gradient, None


class DownUp(nn.Module):
    """The maps of one layer and one tower: `down` to `dim` dimensions, and `up` again."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.down = nn.Sequential(nn.Linear(width, dim), nn.ReLU())
        self.up = nn.Linear(dim, width)


class SharedAdapter(BlockAdapter):
    """The adapter of one block. `shared` belongs to the same layer of both towers.

    The adapter's parameters get their gradient divided by `scale`. The gradient of `h` is the true one. The learning
    rate of the config files is made for this.
    """

    def __init__(self, maps: DownUp, shared: nn.Module, scale: float):
        self.maps, self.shared, self.scale = maps, shared, scale

    def beside(self, h: torch.Tensor) -> torch.Tensor:
        scaled = ScaledGradient.apply(h.to(self.maps.up.weight.dtype), self.scale)
        return ScaledGradient.apply(self.scale * self.maps.up(self.shared(self.maps.down(scaled))), 1 / self.scale)


class AdapterLearner(nn.Module):
    """The adapters of both towers. The keys of the dicts are the layers, counted from 1, as in the official code."""

    def __init__(self, layers: Sequence[int], text_width: int, vision_width: int, dim: int, scale: float):
        super().__init__()
        self.scale = scale
        self.text_adapter = nn.ModuleDict({str(layer): DownUp(text_width, dim) for layer in layers})
        self.visual_adapter = nn.ModuleDict({str(layer): DownUp(vision_width, dim) for layer in layers})
        self.shared_adapter = nn.ModuleDict(
            {str(layer): nn.Sequential(nn.Linear(dim, dim), nn.ReLU()) for layer in layers}
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def of(self, tower: nn.ModuleDict) -> Mapping[int, BlockAdapter]:
        """Return {layer: adapter} for a tower's maps. The first layer is 0."""
        return {
            int(layer) - 1: SharedAdapter(maps, self.shared_adapter[layer], self.scale)  # type: ignore[arg-type]
            for layer, maps in tower.items()
        }


class MMACLIP(Method):
    """CLIP with coupled adapters in the upper blocks of both towers."""

    ignored_keys = ("token_embedding", "tokenized_prompts")  # buffers that the official code saves

    def __init__(self, options: MMAOptions, clip: CLIP, classnames: Sequence[str], template: str):
        super().__init__(options, clip, classnames, template)
        check_depth(clip, options.ADAPTER_START, "TRAINER.MMADAPTER.ADAPTER_START")
        check_depth(clip, options.ADAPTER_END, "TRAINER.MMADAPTER.ADAPTER_END")
        if options.ADAPTER_START > options.ADAPTER_END or options.ADAPTER_SCALE <= 0:
            raise InputError(
                "TRAINER.MMADAPTER needs ADAPTER_START <= ADAPTER_END and ADAPTER_SCALE > 0, but the values are "
                f"{options.ADAPTER_START}, {options.ADAPTER_END} and {options.ADAPTER_SCALE}"
            )
        prompt = f"{options.TEXT_CTX_INIT} {{}}.".strip()  # the data set's template isn't used
        self.prompts = ClassPrompts(clip, prompt, classnames, 0)
        self.adapter_learner = AdapterLearner(
            range(options.ADAPTER_START, options.ADAPTER_END + 1),
            clip.sizes.transformer_width,
            clip.sizes.vision_width,
            options.ADAPTER_DIM,
            options.ADAPTER_SCALE,
        )

    def text_inputs(self) -> TowerInputs:
        return TowerInputs(adapters=self.adapter_learner.of(self.adapter_learner.text_adapter))

    def image_inputs(self) -> TowerInputs:
        return TowerInputs(adapters=self.adapter_learner.of(self.adapter_learner.visual_adapter))

    def encode_text(self) -> torch.Tensor:
        return self.prompts.encode_template(self.text_inputs())


@TRAINER_REGISTRY.register()
class MultiModalAdapter(PromptTrainer):
    """Trains MMA. With ViT-B/16 and 8 layers, MMA learns 674,560 parameters."""

    method = MMACLIP
    options = MMAOptions
    node = "MMADAPTER"
    checkpoints = {"adapter_learner": "adapter_learner"}
    default_config = "vit_b16_ep5"
    cross_dataset_config = "vit_b16_ep1_cross_datasets"

    @classmethod
    def values(cls, dataset: str, protocol: str, shots: int) -> dict[str, object]:
        """Return ImageNet's batch size."""
        return {"DATALOADER.TRAIN_X.BATCH_SIZE": 128} if dataset == "ImageNet" else {}
