"""CLIP's ResNet image tower. `CLIP` builds this tower if its `Sizes` describe a ResNet, such as RN50.

A ResNet isn't a transformer, so it takes no prompts, inserted tokens or adapters.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from clip.attention import join_heads, split_heads
from clip.blocks import module_types


class Bottleneck(nn.Module):
    """A ResNet bottleneck. To reduce the resolution, it uses average pooling instead of strided convolutions."""

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
    """Attention pooling. The query is the mean feature. The keys and values are the mean feature and all positions."""

    def __init__(self, side: int, width: int, heads: int, output_dim: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * width**-0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, output_dim)
        self.num_heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool a feature map (batch, channels, side, side) to features (batch, output_dim)."""
        x = x.flatten(2).transpose(1, 2)  # (batch, side * side, channels)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # (batch, 1 + side * side, channels)
        x = x + self.positional_embedding.to(x.dtype)
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        # q: (batch, heads, 1, head width); k and v: (batch, heads, 1 + side * side, head width)
        q, k, v = (split_heads(t, self.num_heads) for t in (q, k, v))
        pooled = F.scaled_dot_product_attention(q, k, v)  # (batch, heads, 1, head width)
        return self.c_proj(join_heads(pooled)[:, 0])


class ModifiedResNet(nn.Module):
    """CLIP's ResNet. It has a stem of three convolutions, average pooling instead of strides, and attention pooling.

    Args:
        layers: number of bottlenecks in each of the four stages.
        width: number of channels after the stem.
    """

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
        """Encode images (batch, 3, resolution, resolution) as features (batch, output_dim), not normalised."""
        x = x.type(self.conv1.weight.dtype)
        for number in (1, 2, 3):
            conv, bn, relu = (getattr(self, f"{part}{number}") for part in ("conv", "bn", "relu"))
            x = relu(bn(conv(x)))
        x = self.avgpool(x)
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.attnpool(x)
