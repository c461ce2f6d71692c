"""`SimpleNet`, an image classifier, and functions that build its backbone and its head.

`SimpleTrainer.build_model` builds a `SimpleNet`.

Prompt trainers build a CLIP model instead and don't use this module.
"""

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.utils.errors import unknown

_ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class SimpleNet(nn.Module):
    """A backbone, an optional head, and a linear classifier.

    Args:
        cfg: not used. Dassl's signature has this parameter.
        model_cfg: the MODEL node of the config.
        num_classes: number of classes; 0 means that the net has no classifier.
    """

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int):
        super().__init__()
        self.backbone, features = build_backbone(model_cfg.BACKBONE.NAME, model_cfg.BACKBONE.PRETRAINED)
        self.head = None
        if model_cfg.HEAD.NAME and model_cfg.HEAD.HIDDEN_LAYERS:
            self.head, features = build_head(model_cfg.HEAD, features)
        self.classifier = nn.Linear(features, num_classes) if num_classes > 0 else None
        self._fdim = features

    @property
    def fdim(self) -> int:
        """Number of features that the backbone (with its head, if any) returns for an image."""
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits (batch, classes) of images (batch, 3, height, width).

        If `return_feature` is True, return (logits, features). If the net has no classifier, return only the features
        (batch, fdim).
        """
        features = self.backbone(x)
        if self.head is not None:
            features = self.head(features)
        if self.classifier is None:
            return features
        logits = self.classifier(features)
        return (logits, features) if return_feature else logits


def build_backbone(name: str, pretrained: bool = True) -> tuple[nn.Module, int]:
    """Return a torchvision ResNet without its classifier, and the number of features that the ResNet returns.

    Args:
        name: torchvision's name of the model.
        pretrained: load torchvision's default weights, downloading them if needed.

    Raises:
        InputError: torchvision has no ResNet of that name.
    """
    from torchvision import models  # slow to import, and prompt trainers don't need it

    known = [model for model in models.list_models() if "resne" in model and "quant" not in model]
    if name not in known:
        raise unknown("backbone (MODEL.BACKBONE.NAME)", name, known)
    backbone = models.get_model(name, weights="DEFAULT" if pretrained else None)
    features = backbone.fc.in_features
    backbone.fc = nn.Identity()
    return backbone, features


def build_head(head_cfg: CfgNode, in_features: int) -> tuple[nn.Module, int]:
    """Return a stack of linear layers, and the number of features that the stack returns.

    Args:
        head_cfg: the MODEL.HEAD node of the config. HIDDEN_LAYERS lists the widths of the linear layers. Each
            linear layer is followed by batch normalisation (if BN is set), ACTIVATION, and dropout (if DROPOUT > 0).
        in_features: number of input features.

    Raises:
        InputError: ACTIVATION is unknown.
    """
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
