"""VGG-16's convolutions, which FCN-8s and SegNet begin with.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(arXiv 1409.1556); layout and initial values of torchvision's `vgg.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from paddle import nn

from factseg_paddle.models.initializers import constant, kaiming_normal
from factseg_paddle.models.layers import conv

# The five stages, a pooling behind each: (channels in, channels out) by the authors' names.
STAGES = (
    {"conv1_1": (3, 64), "conv1_2": (64, 64)},
    {"conv2_1": (64, 128), "conv2_2": (128, 128)},
    {"conv3_1": (128, 256), "conv3_2": (256, 256), "conv3_3": (256, 256)},
    {"conv4_1": (256, 512), "conv4_2": (512, 512), "conv4_3": (512, 512)},
    {"conv5_1": (512, 512), "conv5_2": (512, 512), "conv5_3": (512, 512)},
)


def vgg_conv(in_channels: int, out_channels: int, *, padding: int = 1) -> nn.Conv2D:
    """Build a 3x3 convolution that starts kaiming-normal (fan_out), its bias at 0."""
    return conv(
        in_channels,
        out_channels,
        3,
        padding=padding,
        bias=True,
        weight_init=kaiming_normal(out_channels * 9),
        bias_init=constant(0.0),
    )


def vgg16_features() -> list[nn.Layer]:
    """Build torchvision's `features` of vgg16: 13 convolutions with ReLU, and five poolings."""
    layers: list[nn.Layer] = []
    for stage in STAGES:
        for in_channels, out_channels in stage.values():
            layers += [vgg_conv(in_channels, out_channels), nn.ReLU()]
        layers.append(nn.MaxPool2D(2))
    return layers


def named_vgg_layers(stages: Iterable[Iterable[nn.Layer]]) -> dict[str, nn.Layer]:
    """Return the layers with tensors by torchvision's names, "features.0" for the first.

    Args:
        stages: what torchvision has in `features`, in its order, ReLU included; the pooling behind
            each stage is not listed, but counts.
    """
    named, index = {}, 0
    for stage in stages:
        for layer in stage:
            if layer.state_dict():
                named[f"features.{index}"] = layer
            index += 1
        index += 1
    return named
