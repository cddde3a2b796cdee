"""The backbones by name; each entry builds a network with `out_channels` and `out_strides`."""

from factseg_paddle.models.backbones.resnet import (
    ResNet,
    ResNetEncoder,
    named_backbone_layers,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)

BACKBONES = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
}

__all__ = ["BACKBONES", "ResNet", "ResNetEncoder", "named_backbone_layers", *BACKBONES]
