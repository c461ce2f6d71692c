"""The image towers: Vision Transformer, which takes prompts, and CLIP's ResNet."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from clip.blocks import LayerNorm, Transformer, attend, is_untouched, join_heads, module_types, split_heads
from clip.inputs import NO_INPUTS, TowerInputs


class VisionTransformer(nn.Module):
    """CLIP's ViT: patches, class token, pre- and post-norm, projection of the class token."""

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        mlp: int = 0,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        positions = (input_resolution // patch_size) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(positions, width) * width**-0.5)
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, mlp=mlp, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, output_dim) * width**-0.5)
        self.original_types = module_types(self)

    def forward(self, x: torch.Tensor, inputs: TowerInputs = NO_INPUTS) -> torch.Tensor:
        """Images (batch, 3, resolution, resolution) -> features (batch, output_dim), not normalised.

        Args:
            inputs: deep prompts, each (n, width). The first stands behind the patches, before `ln_pre` and without a
                position (Visual Prompt Tuning, Jia et al., ECCV 2022); number i takes its places at layer i. From
                layer len(prompts) on they run through.
        """
        prompts = inputs.prompts
        x = self.conv1(x.type(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (batch, patches, width)
        x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        x = self.ln_pre(x)
        parts = [
            x,
            *(_over_batch(self.ln_pre(prompt.to(x.dtype)), x) for layer, prompt in prompts.items() if layer == 0),
        ]
        x = self._class_token(parts, prompts) if is_untouched(self.transformer) else self._plain(parts, prompts)
        return self.ln_post(x) @ self.proj.to(x.dtype)

    def _class_token(self, parts: Sequence[torch.Tensor], prompts: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Frozen tokens and prompts, each (batch, length, width) -> class token of the last layer (batch, width)."""
        heads = self.transformer.heads
        *blocks, last = self.transformer.blocks()
        x = torch.cat(list(parts), dim=1)
        for layer, block in enumerate(blocks):
            x = _replace(x, prompts, layer)
            # At the first layer in parts: no gradient is worked out for frozen tokens.
            qkv = torch.cat([block.project(block.ln_1(part)) for part in (parts if layer == 0 else [x])], dim=1)
            q, k, v = (split_heads(t, heads) for t in qkv.chunk(3, dim=-1))
            x = block.finish(x, join_heads(attend(q, k, v)))
        x = _replace(x, prompts, len(blocks))
        h = last.ln_1(x)  # of the last layer nobody sees more than the class token: it alone asks
        q = split_heads(last.project(h[:, :1], 0, 1), heads)
        k, v = (split_heads(t, heads) for t in last.project(h, 1, 3).chunk(2, dim=-1))
        return last.finish(x[:, 0], join_heads(attend(q, k, v))[:, 0])

    def _plain(self, parts: Sequence[torch.Tensor], prompts: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """As `_class_token`, but through the modules as they are, since somebody changed them."""
        x = torch.cat(list(parts), dim=1)
        if not any(prompts):
            return self.transformer(x.transpose(0, 1))[0]
        for layer, block in enumerate(self.transformer.resblocks):
            x = block(_replace(x, prompts, layer).transpose(0, 1)).transpose(0, 1)
        return x[:, 0]


def _over_batch(prompt: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return prompt.to(x.dtype).expand(len(x), -1, -1)


def _replace(x: torch.Tensor, prompts: Mapping[int, torch.Tensor], layer: int) -> torch.Tensor:
    """`x` (batch, length, width) with the prompts of `layer` in the last places."""
    if layer == 0 or layer not in prompts:
        return x
    return torch.cat([x[:, : -prompts[layer].shape[-2]], _over_batch(prompts[layer], x)], dim=1)


class Bottleneck(nn.Module):
    """ResNet bottleneck whose stride is an average pooling."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or inplanes != planes * self.expansion:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(inplanes, planes * self.expansion, 1, bias=False)),
                        ("1", nn.BatchNorm2d(planes * self.expansion)),
                    ]
                )
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.avgpool(self.relu2(self.bn2(self.conv2(x))))
        return self.relu3(self.bn3(self.conv3(x)) + shortcut)


class AttentionPool2d(nn.Module):
    """The mean of all places asks all places and itself."""

    def __init__(self, side: int, width: int, heads: int, output_dim: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * width**-0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, output_dim)
        self.num_heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, width, height, width) -> (batch, output_dim)"""
        x = x.flatten(2).transpose(1, 2)  # (batch, places, width)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (split_heads(t, self.num_heads) for t in (q, k, v))
        pooled = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(join_heads(pooled)[:, 0])


class ModifiedResNet(nn.Module):
    """CLIP's ResNet: a stem of three convolutions, average-pooled strides, attention pooling. Takes no prompts."""

    def __init__(
        self, layers: Sequence[int], output_dim: int, heads: int, input_resolution: int = 224, width: int = 64
    ):
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        inplanes = width
        for stage, blocks in enumerate(layers):
            planes = width * 2**stage
            stack = [Bottleneck(inplanes, planes, stride=1 if stage == 0 else 2)]
            inplanes = planes * Bottleneck.expansion
            stack += [Bottleneck(inplanes, planes) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*stack))
        self.attnpool = AttentionPool2d(input_resolution // 32, width * 32, heads, output_dim)
        self.original_types = module_types(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (batch, 3, resolution, resolution) -> features (batch, output_dim), not normalised."""
        x = x.type(self.conv1.weight.dtype)
        for number in (1, 2, 3):
            conv, bn, relu = (getattr(self, f"{part}{number}") for part in ("conv", "bn", "relu"))
            x = relu(bn(conv(x)))
        x = self.avgpool(x)
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.attnpool(x)
