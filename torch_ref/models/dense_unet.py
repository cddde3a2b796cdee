"""U-Net with DenseNet-121 as its encoder.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv
1505.04597). Source, whose tensor names are kept: segmentation_models.pytorch's `Unet` with the
encoder "densenet121", which FactSeg's `module/baseline/denseunet.py` takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.models.backbones.densenet import DenseNet, densenet121
from torch_ref.models.initializers import constant, kaiming_uniform, xavier_uniform
from torch_ref.models.layers import check_image_batch, conv, conv_bn_relu
from torch_ref.models.output import SegmentationOutput

WIDTHS = (256, 128, 64, 32, 16)


class DenseUNet(nn.Module):
    """Five halvings by the encoder, and five steps back to the size of the image.

    Args:
        num_classes: classes including the background.
        densenet: the encoder.
    """

    def __init__(self, num_classes: int, densenet: DenseNet) -> None:
        super().__init__()
        self.encoder = densenet
        self.decoder = _Decoder(densenet.out_channels, WIDTHS)
        head = conv(
            WIDTHS[-1],
            num_classes,
            3,
            bias=True,
            weight_init=xavier_uniform(),
            bias_init=constant(0.0),
        )
        self.segmentation_head = nn.Sequential(head)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 32.
        """
        check_image_batch(x, divisor=32)
        return SegmentationOutput(self.segmentation_head(self.decoder(self.encoder(x))))


class _Decoder(nn.Module):
    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        deepest, *skips = reversed(channels)
        self.blocks = nn.ModuleList()
        in_channels = deepest
        # The last block has no skip: at full size there is the image alone.
        for skip_channels, width in zip((*skips, 0), widths, strict=True):
            self.blocks.append(_Block(in_channels + skip_channels, width))
            in_channels = width

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        x, *skips = reversed(features)
        for block, skip in zip(self.blocks, (*skips, None), strict=True):
            x = block(x, skip)
        return x


class _Block(nn.Module):
    """in_channels are those of the enlarged input and of the skip connection together."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _conv_bn_relu(in_channels, out_channels)
        self.conv2 = _conv_bn_relu(out_channels, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    init = kaiming_uniform(in_channels * 9, a=0)
    return conv_bn_relu(in_channels, out_channels, 3, weight_init=init)


def denseunet_densenet121(num_classes: int) -> DenseUNet:
    """Build the one FactSeg is compared with."""
    return DenseUNet(num_classes, densenet121())
