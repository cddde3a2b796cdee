"""SegNet: VGG-16 with BatchNorm and its mirror image, which puts maxima back where they were.

Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation" (arXiv 1511.00561). Sources: alexgkendall/SegNet-Tutorial
`Models/segnet_train.prototxt` (`SegNet`; its Caffe names, with 0 for the convolution and 1 for its
BatchNorm) and meetps/pytorch-semseg `ptsemseg/models/segnet.py` (`RectifiedSegNet`, whose tensor
names are kept).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from torch_ref.models.backbones.vgg import STAGES
from torch_ref.models.initializers import constant, kaiming_normal
from torch_ref.models.layers import (
    batch_norm,
    check_image_batch,
    conv,
    conv_bn_relu,
    named,
    pool_with_indices,
    unpool,
)
from torch_ref.models.output import SegmentationOutput


class SegNet(nn.Module):
    """The authors' network. Convolutions start kaiming-normal (fan_in), BatchNorm at 1 and .001."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels = {name: pair for stage in STAGES for name, pair in stage.items()}
        for name, (in_channels, out_channels) in channels.items():
            setattr(self, name, _started_conv_bn_relu(in_channels, out_channels))
        del channels["conv1_1"]  # whose mirror image is the classifier
        for name, (in_channels, out_channels) in reversed(channels.items()):
            setattr(self, f"{name}_D", _started_conv_bn_relu(out_channels, in_channels))
        self.conv1_1_D = _started_conv(64, num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] of any size to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W].
        """
        check_image_batch(x)
        encoder = [[getattr(self, name) for name in stage] for stage in STAGES]
        decoder = [
            [getattr(self, f"{name}_D") for name in reversed(stage)] for stage in reversed(STAGES)
        ]
        # Caffe rounds up: 360 rows become 180, 90, 45, 23 and 12, and then 23, 45, ... again.
        return SegmentationOutput(_encoded_and_decoded(x, encoder, decoder, ceil_mode=True))


class RectifiedSegNet(nn.Module):
    """`SegNet` with BatchNorm and ReLU behind the last convolution too: no logit is negative.

    A defect of the original's, kept for its checkpoints. Its tensors start as PyTorch's do.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        encoder = [list(stage.values()) for stage in STAGES]
        decoder = [[(after, before) for before, after in reversed(pairs)] for pairs in encoder]
        decoder[0][-1] = (64, num_classes)
        self.down1, self.down2, self.down3, self.down4, self.down5 = map(_numbered_convs, encoder)
        self.up5, self.up4, self.up3, self.up2, self.up1 = map(_numbered_convs, decoder[::-1])

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W], of at least 32x32 pixels, to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W] or smaller.
        """
        check_image_batch(x, smallest=32)
        encoder = (self.down1, self.down2, self.down3, self.down4, self.down5)
        decoder = (self.up5, self.up4, self.up3, self.up2, self.up1)
        # Rounded down, unlike the authors': an odd side's last pixels come back as zeros.
        return SegmentationOutput(_encoded_and_decoded(x, encoder, decoder, ceil_mode=False))


def _encoded_and_decoded(
    x: torch.Tensor,
    encoder: Iterable[Iterable[nn.Module]],
    decoder: Iterable[Iterable[nn.Module]],
    *,
    ceil_mode: bool,
) -> torch.Tensor:
    """Pass x through stages of layers, pooled behind each, and back through others, unpooled."""
    pooled = []
    for stage in encoder:
        for layer in stage:
            x = layer(x)
        size = x.shape[2:]
        x, indices = pool_with_indices(x, ceil_mode=ceil_mode)
        pooled.append((indices, size))
    for stage in decoder:
        x = unpool(x, *pooled.pop())
        for layer in stage:
            x = layer(x)
    return x


def _started_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return conv(
        in_channels,
        out_channels,
        3,
        bias=True,
        weight_init=kaiming_normal(in_channels * 9),
        bias_init=constant(0.0),
    )


def _started_conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    norm = batch_norm(out_channels)
    constant(0.001)(norm.bias)
    return nn.Sequential(_started_conv(in_channels, out_channels), norm, nn.ReLU())


def _numbered_convs(channels: Iterable[tuple[int, int]]) -> nn.Sequential:
    """Build the convolutions `conv1`, `conv2`, ... of these (channels in, channels out)."""
    return named(
        **{
            f"conv{number}": named(cbr_unit=conv_bn_relu(*pair, 3, bias=True))
            for number, pair in enumerate(channels, start=1)
        }
    )


def segnet_vgg16_bn(num_classes: int) -> SegNet:
    """Build the authors' network."""
    return SegNet(num_classes)


def segnet_vgg16_bn_relu(num_classes: int) -> RectifiedSegNet:
    """Build the one of pytorch-semseg, which ends with ReLU."""
    return RectifiedSegNet(num_classes)
