"""U-Net in the forms in which it is trained: all with padded convolutions and BatchNorm.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv
1505.04597). Sources, whose tensor names are kept: milesial/Pytorch-UNet `unet/` (`UNet`), the
article "classic segmentation models" (`LightUNet`) and FactSeg's `module/baseline/unet.py`
(`StridedUNet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from torch_ref.models.layers import (
    batch_norm,
    check_image_batch,
    conv,
    conv_bn_relu,
    deconv,
    upsample,
)
from torch_ref.models.output import SegmentationOutput


class UNet(nn.Module):
    """Four halvings from 64 channels on, and four steps back.

    Args:
        num_classes: classes including the background.
        bilinear: enlarge by interpolation, with half the channels in the middle, instead of by
            transposed convolutions.
    """

    def __init__(self, num_classes: int, *, bilinear: bool) -> None:
        super().__init__()
        deepest = 512 if bilinear else 1024
        self.inc = _DoubleConv(3, 64)
        self.down1 = _Down(64, 128)
        self.down2 = _Down(128, 256)
        self.down3 = _Down(256, 512)
        self.down4 = _Down(512, deepest)
        up = _BilinearUp if bilinear else _TransposedUp
        self.up1 = up(1024, deepest // 2)
        self.up2 = up(512, deepest // 4)
        self.up3 = up(256, deepest // 8)
        self.up4 = up(128, 64)
        self.outc = _OutConv(64, num_classes)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W], of at least 16x16 pixels, to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W] or smaller.
        """
        check_image_batch(x, smallest=16)
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        x = self.up1(x5, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return SegmentationOutput(self.outc(x))


class _DoubleConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, mid_channels: int | None = None):
        super().__init__()
        mid_channels = mid_channels or out_channels
        self.double_conv = nn.Sequential(*_two_convs(in_channels, mid_channels, out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.double_conv(x)


class _Down(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConv(in_channels, out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maxpool_conv(x)


class _BilinearUp(nn.Module):
    """in_channels are those of the enlarged input and of the skip connection together."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _DoubleConv(in_channels, out_channels, in_channels // 2)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = upsample(x, 2, align_corners=True)
        return self.conv(torch.cat([skip, _padded_to(x, skip)], dim=1))


class _TransposedUp(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = deconv(in_channels, in_channels // 2, 2, stride=2, bias=True)
        self.conv = _DoubleConv(in_channels, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([skip, _padded_to(self.up(x), skip)], dim=1))


class _OutConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, 1, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class LightUNet(nn.Module):
    """Half the channels of `UNet`, 256 at most, biased convolutions, bilinear enlarging."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = _NamedDoubleConv(3, 32)
        self.down1 = _NamedDown(32, 64)
        self.down2 = _NamedDown(64, 128)
        self.down3 = _NamedDown(128, 256)
        self.down4 = _NamedDown(256, 256)
        self.up1 = _NamedUp(512, 128)
        self.up2 = _NamedUp(256, 64)
        self.up3 = _NamedUp(128, 32)
        self.up4 = _NamedUp(64, 32)
        self.reduce = conv(32, num_classes, 1, bias=True)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W], of at least 16x16 pixels, to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W] or smaller.
        """
        check_image_batch(x, smallest=16)
        x1 = self.stem(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.down4(x4)
        x = self.up1(x, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return SegmentationOutput(self.reduce(x))


class _NamedDoubleConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, mid_channels: int | None = None):
        super().__init__()
        mid_channels = mid_channels or out_channels
        self.conv1 = conv(in_channels, mid_channels, 3, bias=True)
        self.bn1 = batch_norm(mid_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(mid_channels, out_channels, 3, bias=True)
        self.bn2 = batch_norm(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)))


class _NamedDown(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.maxpool = nn.MaxPool2d(2)
        self.conv = _NamedDoubleConv(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.maxpool(x))


class _NamedUp(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _NamedDoubleConv(in_channels, out_channels, in_channels // 2)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = upsample(x, 2, align_corners=True)
        return self.conv(torch.cat([skip, _padded_to(x, skip)], dim=1))


class StridedUNet(nn.Module):
    """Channels from 32 to 512, overlapping transposed convolutions, the skip connection last."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.naive_encoder = _NaiveEncoder((32, 64, 128, 256, 512))
        self.naive_decoder = _NaiveDecoder((512, 256, 128, 64, 32))
        self.cls_pred_conv = conv(32, num_classes, 1, bias=True)

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        """Map images [N, 3, H, W] to logits at the same size.

        Raises:
            ValueError: x is not [N, 3, H, W], or a side does not divide by 16.
        """
        check_image_batch(x, divisor=16)
        return SegmentationOutput(self.cls_pred_conv(self.naive_decoder(self.naive_encoder(x))))


class _NaiveEncoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(
            nn.Sequential(*_two_convs(in_channels, width, width))
            for in_channels, width in zip((3, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for level, block in enumerate(self.module_list):
            x = block(self.pool(x) if level else x)
            features.append(x)
        return features


class _NaiveDecoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.upsample_list = nn.ModuleList()
        self.module_list = nn.ModuleList()
        for in_channels, width in pairwise(widths):
            up = deconv(in_channels, width, 4, stride=2, padding=1)
            self.upsample_list.append(nn.Sequential(up))
            self.module_list.append(nn.Sequential(*_two_convs(2 * width, width, width)))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x, *skips = reversed(features)
        for up, block, skip in zip(self.upsample_list, self.module_list, skips, strict=True):
            x = block(torch.cat([up(x), skip], dim=1))
        return x


def _two_convs(in_channels: int, mid_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        *conv_bn_relu(in_channels, mid_channels, 3),
        *conv_bn_relu(mid_channels, out_channels, 3),
    ]


def _padded_to(x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """Pad x with zeros where an odd side lost a pixel on the way down."""
    height, width = (a - b for a, b in zip(skip.shape[2:], x.shape[2:], strict=True))
    return F.pad(x, [width // 2, width - width // 2, height // 2, height - height // 2])


def unet_bilinear(num_classes: int) -> UNet:
    """Build the well-known one with bilinear enlarging."""
    return UNet(num_classes, bilinear=True)


def unet_transposed(num_classes: int) -> UNet:
    """Build the well-known one with transposed convolutions."""
    return UNet(num_classes, bilinear=False)


def unet_bilinear_w32(num_classes: int) -> LightUNet:
    """Build the article's, which starts with 32 channels."""
    return LightUNet(num_classes)


def unet_transposed_w32(num_classes: int) -> StridedUNet:
    """Build the one FactSeg is compared with, which starts with 32 channels."""
    return StridedUNet(num_classes)
