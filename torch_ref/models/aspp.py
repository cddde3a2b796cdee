"""Atrous spatial pyramid pooling: one feature map seen at several rates and as a whole.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (arXiv 1706.05587),
section 3.3. Sources, whose tensor names are kept: the article "classic segmentation models" and
VainF/DeepLabV3Plus-Pytorch `network/_deeplab.py` (`ASPP`), SimpleCV's `module/aspp.py`
(`MergedASPP`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torch_ref.models.layers import check_pooled_batch, conv_bn_relu

CHANNELS = 256
RATES = (6, 12, 18)


class ImagePool(nn.Sequential):
    """The mean over the image (0) and the layers behind it, laid over the whole map again.

    Args:
        layers: take and give 1x1 maps.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to [N, C', H, W], the same at every position.

        Raises:
            ValueError: one image in training mode.
        """
        check_pooled_batch(x, self.training)
        # The references interpolate a 1x1 map here, with corners aligned or not: the same.
        return super().forward(x).expand(-1, -1, *x.shape[2:])


class ASPP(nn.Module):
    """A 1x1 convolution, three of 3x3 at growing rates, the image's mean; a 1x1 joins them.

    Args:
        in_channels: channels of the input.
        dropout: probability with which each element of the output is dropped.
    """

    def __init__(self, in_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                conv_bn_relu(in_channels, CHANNELS, 1),
                *rate_branches(in_channels, RATES),
                ImagePool(*conv_bn_relu(in_channels, CHANNELS, 1)),
            ]
        )
        self.project = nn.Sequential(
            *conv_bn_relu(5 * CHANNELS, CHANNELS, 1),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, in_channels, H, W] to [N, 256, H, W]."""
        return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))


class MergedASPP(nn.Module):
    """`ASPP` without dropout, under other names."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1x1 = conv_bn_relu(in_channels, CHANNELS, 1)
        self.aspp_convs = nn.ModuleList(rate_branches(in_channels, RATES))
        self.image_pool = ImagePool(*conv_bn_relu(in_channels, CHANNELS, 1))
        self.merge_conv = conv_bn_relu(5 * CHANNELS, CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, in_channels, H, W] to [N, 256, H, W]."""
        branches = [self.conv1x1, *self.aspp_convs, self.image_pool]
        return self.merge_conv(torch.cat([branch(x) for branch in branches], dim=1))


def rate_branches(in_channels: int, rates: Sequence[int]) -> list[nn.Sequential]:
    """Build 3x3 convolutions to 256 channels with BatchNorm and ReLU, one for each rate."""
    return [conv_bn_relu(in_channels, CHANNELS, 3, dilation=rate) for rate in rates]
