"""Backbones and heads for `SimpleNet`."""

from typing import Any

import torchvision
from torch import nn

from dassl.utils.errors import unknown

_ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def build_backbone(name: str, pretrained: bool = True) -> tuple[nn.Module, int]:
    """A torchvision ResNet without its classifier, and the number of its features.

    Raises:
        InputError: torchvision has no ResNet of that name.
    """
    known = [model for model in torchvision.models.list_models() if "resne" in model and "quant" not in model]
    if name not in known:
        raise unknown("backbone (MODEL.BACKBONE.NAME)", name, known)
    backbone = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    features = backbone.fc.in_features
    backbone.fc = nn.Identity()
    return backbone, features


def build_head(head_cfg: Any, in_features: int) -> tuple[nn.Module, int]:
    """A stack of linear layers (HIDDEN_LAYERS wide) with BN, ACTIVATION and DROPOUT, and its width."""
    layers: list[nn.Module] = []
    for width in head_cfg.HIDDEN_LAYERS:
        layers.append(nn.Linear(in_features, width))
        if head_cfg.BN:
            layers.append(nn.BatchNorm1d(width))
        if head_cfg.ACTIVATION not in _ACTIVATIONS:
            raise unknown("activation (MODEL.HEAD.ACTIVATION)", head_cfg.ACTIVATION, _ACTIVATIONS)
        layers.append(_ACTIVATIONS[head_cfg.ACTIVATION]())
        if head_cfg.DROPOUT > 0:
            layers.append(nn.Dropout(head_cfg.DROPOUT))
        in_features = width
    return nn.Sequential(*layers), in_features
