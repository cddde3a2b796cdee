"""torchvision's image classifiers whose weights the backbones start from, for their tensors.

Source: torchvision's `vgg.py` and `densenet.py`; ResNets lie in `torch_ref.models.backbones`.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

CLASSIFIERS = ("densenet121", "vgg16", "vgg16_bn")


def classifier_of(names: Container[str]) -> str:
    """Return which of CLASSIFIERS has tensors of these names, torch's or Paddle's; "" for none."""
    if "classifier.weight" in names and "features.denseblock4.denselayer16.conv2.weight" in names:
        return "densenet121"
    if "classifier.6.weight" in names and "features.0.weight" in names:
        return "vgg16_bn" if "features.1.weight" in names else "vgg16"
    return ""


def build_classifier(name: str, num_classes: int) -> nn.Module:
    """Build one of CLASSIFIERS with torchvision's tensor names; it has no forward pass."""
    from torch import nn

    from torch_ref.models.backbones.densenet import densenet121
    from torch_ref.models.backbones.vgg import vgg16_features

    if name == "densenet121":
        network = densenet121()
        network.classifier = nn.Linear(network.out_channels[-1], num_classes)
        return network
    layers: list[nn.Module] = []
    for layer in vgg16_features():
        layers.append(layer)
        if name == "vgg16_bn" and isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    network.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, num_classes),
    )
    return network
