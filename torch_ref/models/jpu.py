"""Joint pyramid upsampling: the features of a strided backbone, joined at stride 8.

Wu et al., "FastFCN: Rethinking Dilated Convolution in the Backbone for Semantic Segmentation"
(arXiv 1903.11816). Sources, whose tensor names are kept: wuhuikai/FastFCN
`encoding/nn/customize.py` (`JPU`) and the article "classic segmentation models" (`PlainJPU`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torch_ref.models.layers import (
    batch_norm,
    conv,
    conv_bn_relu,
    named_conv_bn_relu,
    resize,
)

WIDTH = 512
DILATIONS = (1, 2, 4, 8)


class JPU(nn.Module):
    """The authors', with separable convolutions at four dilations.

    Args:
        in_channels: channels of the three features, finest first.
    """

    out_channels = WIDTH * len(DILATIONS)

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.conv5 = conv_bn_relu(in_channels[2], WIDTH, 3)
        self.conv4 = conv_bn_relu(in_channels[1], WIDTH, 3)
        self.conv3 = conv_bn_relu(in_channels[0], WIDTH, 3)
        for number, dilation in enumerate(DILATIONS, start=1):
            setattr(self, f"dilation{number}", _dilated(3 * WIDTH, WIDTH, dilation))

    def forward(self, c3: torch.Tensor, c4: torch.Tensor, c5: torch.Tensor) -> torch.Tensor:
        """Map three features, finest first, to [N, 2048, H, W] at the size of the finest."""
        joined = _joined(self.conv3(c3), self.conv4(c4), self.conv5(c5))
        numbers = range(1, len(DILATIONS) + 1)
        return torch.cat([getattr(self, f"dilation{n}")(joined) for n in numbers], dim=1)


def _dilated(in_channels: int, out_channels: int, dilation: int) -> nn.Sequential:
    separable = _SeparableConv(in_channels, out_channels, dilation)
    return nn.Sequential(separable, batch_norm(out_channels), nn.ReLU())


class _SeparableConv(nn.Module):
    """BatchNorm stands between the two convolutions, and no ReLU."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, in_channels, 3, dilation=dilation, groups=in_channels)
        self.bn = batch_norm(in_channels)
        self.pointwise = conv(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.bn(self.conv1(x)))


class PlainJPU(nn.Module):
    """The article's, whose convolutions at four dilations are not separable.

    Args:
        in_channels: channels of the three features, finest first.
    """

    out_channels = WIDTH * len(DILATIONS)

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.conv2 = named_conv_bn_relu(in_channels[0], WIDTH, 3)
        self.conv3 = named_conv_bn_relu(in_channels[1], WIDTH, 3)
        self.conv4 = named_conv_bn_relu(in_channels[2], WIDTH, 3)
        self.dilated_convs = nn.ModuleList(
            named_conv_bn_relu(3 * WIDTH, WIDTH, 3, dilation=dilation) for dilation in DILATIONS
        )

    def forward(self, c3: torch.Tensor, c4: torch.Tensor, c5: torch.Tensor) -> torch.Tensor:
        """Map three features, finest first, to [N, 2048, H, W] at the size of the finest."""
        joined = _joined(self.conv2(c3), self.conv3(c4), self.conv4(c5))
        return torch.cat([branch(joined) for branch in self.dilated_convs], dim=1)


def _joined(fine: torch.Tensor, middle: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    size = fine.shape[2:]
    middle = resize(middle, size, align_corners=True)
    coarse = resize(coarse, size, align_corners=True)
    # Coarsest first, in the authors' code and in the article's.
    return torch.cat([coarse, middle, fine], dim=1)
